"""Attack: messages whose task, id, root and group hold NUL, bidirectional marks, slashes, line ends, as much as
AMQP takes, or nothing, so that logs, results and metrics are written under them."""

NAMES = [
    "",
    "a\0b",
    "\u202eksat",
    "a/b/../../c",
    "x\n[2026-01-01 00:00:00,000: INFO/petiole] Task FORGED[1] succeeded",
    "x\u2028[2026-01-01 00:00:00,000: INFO/petiole] Task FORGED[1] succeeded\x1b[2J",
    'a"} 1\nforged_metric{a="',
    "*",
    "a" * 100_000,
]


def messages(neighbour):
    """Headers of task messages: each name as a task, and as the id and the rest of a task that there is."""
    for name in NAMES:
        yield {"task": name, "id": f"hostile-{len(name)}"}
        name = name[:15_000]  # all headers together are one frame
        yield {"task": neighbour, "id": name, "root_id": name, "parent_id": name, "group": name, "origin": name}
        yield {"task": neighbour, "id": "hostile", "lang": name, "shadow": name, "argsrepr": name, name[:200]: name}
