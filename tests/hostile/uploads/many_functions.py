"""Attack: a million functions of a core module, and ninety thousand tasks."""

from hostile_site import Upload
from wasm_binary import component, core_module


def uploads(_):
    yield component(module=core_module(functions=1_000_000))
    yield Upload(component(exports=[f"attack{number}" for number in range(90_000)]), says="it exports 90000 functions")
