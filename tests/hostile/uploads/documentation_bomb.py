"""Attack: sixty megabytes of documentation, and documentation that drives the terminal of whoever reads it."""

import json

from wasm_binary import component, custom


def uploads(_):
    line = json.dumps({"task": "attack", "docs": "x" * 1000}).encode() + b"\n"
    yield component(after=b"".join(custom("petiole:docs", line * 900) for _ in range(60)))
    yield component(after=custom("petiole:docs", b"[" * 100_000))
    escapes = "ESCAPED \x1b]0;owned\x07\x1b[2J\u202e\u2028 \x9b6n\r"
    yield component(after=custom("petiole:docs", json.dumps({"task": "attack", "docs": escapes}).encode()))
