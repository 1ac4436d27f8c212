"""Attack: small bodies that grow some hundredfold when they are decompressed, and, where they are JSON, some
thirtyfold once more when they are parsed."""

import zlib

SIZE = 60 << 20


def compressed(start, element, end):
    deflate = zlib.compressobj(1)
    chunk = element * ((1 << 20) // len(element))
    parts = [deflate.compress(start), *(deflate.compress(chunk) for _ in range(SIZE >> 20))]
    return b"".join([*parts, deflate.compress(end), deflate.flush()])


BODIES = [
    compressed(b"", b"\0", b""),
    compressed(b"[[", b"[],", b"0],{},{}]"),
    compressed(b'[[1,2],{},{"callbacks":[', b'{"task":"t"},', b'{"task":"t"}]}]'),
]


def messages(neighbour):
    """Headers and bodies, for a task that there is and for one that there is not."""
    for number, body in enumerate(BODIES):
        yield {"task": neighbour, "id": f"hostile-bomb-{number}", "compression": "application/x-gzip"}, body
    yield {"task": "hostile.nowhere", "id": "hostile-bomb", "compression": "application/x-gzip"}, BODIES[1]
