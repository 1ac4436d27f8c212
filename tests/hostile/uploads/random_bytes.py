"""Attack: noise, alone and behind a component's header."""

import random

from wasm_binary import COMPONENT


def uploads(_):
    chosen = random.Random("hostile")
    for size in (8, 100, 100_000):
        yield chosen.randbytes(size)
        yield COMPONENT + chosen.randbytes(size)
