"""Attack: import outbound HTTP and key-value storage that were not asked for, and that the worker does not allow."""

from hostile_site import Upload

ASKS = b'[capabilities]\nhttp = ["http://127.0.0.1"]\nkeyvalue = true\n'


def uploads(guest):
    for name in ("ssrf_by_address", "keyvalue_flood"):
        yield guest(name)
        yield Upload(guest(name), manifest=ASKS)
