"""Attack: manifests that are no manifest, or ask for what nobody has: folders by path, hosts with tricks, names of
marks, numbers without end, tables a thousand deep."""

from hostile_site import Upload

# With a part of the answer.
MANIFESTS = [
    (b"\xff\xfe", "not UTF-8"),
    (b"\0" * 1000, "TOML parse error"),
    (b"[" * 10_000, "TOML parse error"),
    (b"a = " + b"[" * 40_000, "TOML parse error"),
    (b"[defaults]\n" + b"x" * 40_000 + b" = 1", "TOML parse error"),
    (b"[defaults]\nmemory = 99999999999999999999999999", "expected a number of bytes"),
    (b"[defaults]\nmemory = -1", "-1 is not a size"),
    (b"[defaults]\ntime_limit = nan", "NaN is not a time in seconds"),
    (b"[defaults]\ntime_limit = 1e308", "is not a time in seconds"),
    (b"[defaults]\nmax_host_calls = 18446744073709551616", "expected u64"),
    (b'[tasks.attack]\nname = "a\\u0000b"', "is not a task's name"),
    (b'[tasks.attack]\nname = "a\\u202eb"', "is not a task's name"),
    (b'[tasks.attack]\nname = "a\\u2028b"', "is not a task's name"),
    (b'[tasks.attack]\nname = "a\\nb"', "is not a task's name"),
    (b'[tasks.attack]\nname = "' + b"n" * 40_000 + b'"', "40000 bytes are too long: at most 255"),
    (b'[tasks."../attack"]\ntime_limit = 1', "not a function's name"),
    (b'[capabilities]\nfolders = { "../../etc" = "read-write" }', "is no folder's name"),
    (b'[capabilities]\nfolders = { "/" = "read-write" }', "is no folder's name"),
    (b'[capabilities]\nhttp = ["http://a@b"]', "user names can't be told apart"),
    (b'[capabilities]\nhttp = ["GET\\r\\n http://a"]', "methods are in upper case"),
    (b'[capabilities]\nenv = ["A=B"]', "is no variable's name"),
    (b'[capabilities]\ntemp = "1000000000TiB"', "is not a size"),
    (b"[capabilities]\nroot = true", "unknown field `root`"),
]


def uploads(guest):
    component = guest("spin")
    for manifest, says in MANIFESTS:
        yield Upload(component, manifest=manifest, says=says)
