"""Attack: a component that ends too early, at every place where that may hurt."""

from wasm_binary import component


def uploads(_):
    whole = component()
    for length in range(8, len(whole)):
        yield whole[:length]
