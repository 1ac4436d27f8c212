"""Attack: an upload of more than 64 MiB, with its length announced, and without."""


def uploads(_):
    yield bytes((64 << 20) + 1)
    yield (bytes(1 << 20) for _ in range(100))
