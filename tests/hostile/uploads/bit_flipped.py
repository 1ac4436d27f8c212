"""Attack: a component with one bit that is not as it was, anywhere. Some of them are components still."""

import random


def uploads(guest):
    component = guest("spin")
    chosen = random.Random("hostile")
    for _ in range(60):
        flipped = bytearray(component)
        flipped[chosen.randrange(len(flipped))] ^= 1 << chosen.randrange(8)
        yield bytes(flipped)
