"""Attack: the worker's own compiled code, which it would run without a look at it, uploaded as a component: as it is, and
behind the header of one."""

import os
from pathlib import Path

from wasm_binary import COMPONENT, custom


def uploads(guest):
    component = guest("spin")
    cache = Path(os.environ["PETIOLE_TEST_CACHE"])
    compiled = max((file for file in cache.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    code = compiled.read_bytes()
    elf = code.index(b"\x7fELF")
    yield code
    yield code[elf:]
    yield COMPONENT + code[elf:]
    yield component[:8] + custom("wasmtime.engine", code) + b"\x01"
