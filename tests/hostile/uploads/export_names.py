"""Attack: tasks whose names hold NUL, bidirectional marks, slashes, dots, line ends, a megabyte, or nothing."""

from hostile_site import Upload
from wasm_binary import component

NO_NAME = "is not a valid extern name"
# With a part of the answer.
NAMES = [
    ("", NO_NAME),
    ("a\0b", NO_NAME),
    ("\u202eksat", NO_NAME),
    ("a/b", NO_NAME),
    ("../a", NO_NAME),
    ("a.b", NO_NAME),
    ("a\nb", NO_NAME),
    ("a\u2028b", NO_NAME),
    ("a" * 1_000_000, "string size out of bounds"),
    ("a" * 90_000, "a name of 90000 bytes is too long: the limit is 255"),
    ("é", NO_NAME),
    (b"\xff\xfe", "malformed UTF-8 encoding"),
    ("[method]a.b", "export name `[method]a.b` is not valid"),
]


def uploads(_):
    for name, says in NAMES:
        yield Upload(component(exports=[name]), says=says)
