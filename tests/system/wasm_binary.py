"""WebAssembly's binary format, as far as the generated hostile uploads need it."""

CORE, COMPONENT = b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"

# Sections of a component (component model, Binary.md).
CUSTOM, MODULE, INSTANCE, NESTED, ALIAS, TYPE, CANON, IMPORT, EXPORT = 0, 1, 2, 4, 6, 7, 8, 10, 11


def number(value):
    """Unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def name(text):
    data = text if isinstance(text, bytes) else text.encode()
    return number(len(data)) + data


def vector(items):
    items = list(items)
    return number(len(items)) + b"".join(items)


def section(number_of, content):
    return bytes([number_of]) + number(len(content)) + content


def custom(title, data):
    return section(CUSTOM, name(title) + data)


def core_module(code=b"\x0b", *, functions=1, local_types=b"\0", tables=(), elements=(), pages=None):
    """A core module of functions without parameters and results, all with the same code; `code` ends with 0x0b. The
    first is exported as `attack`. `pages` is the size of its memory, where it has one."""
    body = local_types + code
    return b"".join(
        (
            CORE,
            section(1, vector([b"\x60\0\0"])),
            section(3, vector([b"\0"] * functions)),
            section(4, vector(tables)),
            section(5, vector([] if pages is None else [b"\0" + number(pages)])),
            section(7, vector([name("attack") + b"\0\0"])),
            section(9, vector(elements)),
            section(10, vector([number(len(body)) + body] * functions)),
        )
    )


def component(*, module=None, before=b"", exports=("attack",), after=b""):
    """A component that exports the function `attack` of a core module under each of these names."""
    return b"".join(
        (
            COMPONENT,
            before,
            section(MODULE, module or core_module()),
            section(INSTANCE, vector([b"\0\0\0"])),
            section(ALIAS, vector([b"\0\0\x01\0" + name("attack")])),
            section(TYPE, vector([b"\x40\0\x01\0"])),
            section(CANON, vector([b"\0\0\0\0\0"])),
            section(EXPORT, vector(b"\0" + name(export) + b"\x01\0\0" for export in exports)),
            after,
        )
    )
