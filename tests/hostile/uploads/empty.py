"""Attack: an upload with nothing in it, and others with less than a header."""


def uploads(_):
    yield b""
    yield b"\0"
    yield b"\0asm"
    yield b"\0asm\x0d\0\x01"
    yield b"\0asm\x0d\0\x01\0"
