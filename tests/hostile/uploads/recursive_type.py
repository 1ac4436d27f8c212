"""Attack: types that hold themselves, and types that hold one another."""

from wasm_binary import TYPE, component, section, vector


def uploads(_):
    itself = [b"\x70\0"]  # type 0 = list of type 0
    each_other = [b"\x70\x01", b"\x6b\0"]  # 0 = list of 1, 1 = option of 0
    tuples = [b"\x6f\x02\0\0"]  # 0 = tuple of 0 and 0
    for types in (itself, each_other, tuples):
        yield component(before=section(TYPE, vector(types)))
