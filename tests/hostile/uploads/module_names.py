"""Attack: modules whose names hold NUL, bidirectional marks, slashes, dots, line ends, a megabyte, or nothing."""

from hostile_site import Upload

NAMES = [
    "a\0b",
    "\u202eksat",
    "a/b",
    "../../etc/passwd",
    "..",
    "a\nb",
    "a\u2028b",
    "a" * 1_000_000,
    "é",
    "con ",
    "%2e%2e%2fa",
    "-rf",
]


def uploads(guest):
    component = guest("spin")
    for name in NAMES:
        yield Upload(component, name=name)
    yield Upload(component, name="", says="no such path")
    yield Upload(component, name="a" * 10_000, says="a module name of 10000 bytes is too long: at most 255")
