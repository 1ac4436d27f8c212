"""The memory of all tasks together (`memory_budget`), and of messages beside it."""

import re
import urllib.request
import zlib

from hostile_site import HostileSite, Peak
from servers import TOKEN
from waiting import wait_until

MIB = 1024 * 1024
BUDGET, LIMIT, SLOTS = 1024, 256, 32
HUNGRY, LISTS, NEIGHBOURS = 64, 16, 100
# A list of so many truth values takes some 25 MB in the worker, of which each of up to 8 processors may have as much.
LENGTH = 200_000
# Beside the budget, in MiB: what the worker had before, and the messages and plans of those that are being settled.
PLANS = 192
# What RSS may stay above where it began, in KiB: 150 MB.
LEFT = 150_000_000 // 1024


def test_hungry_tasks_share_a_budget(tmp_path, component, amqp_url, redis_url, capsys):
    """Tasks that take all they may, of a budget for three of them: each fails for its own limit or has its result, and
    none for the others."""
    env = {"PETIOLE_MEMORY_BUDGET": f"{BUDGET}MiB", "PETIOLE_MEMORY_LIMIT": f"{LIMIT}MiB"}
    site = HostileSite(tmp_path, component, amqp_url, redis_url, {}, slots=SLOTS, env=env)
    try:
        site.start(neighbours=False)
        for guest in ("memory_bomb", "giant_list"):
            assert site.push(f"hostile.{guest}", component(f"hostile/{guest}").read_bytes())[0] == 201
        assert site.call("neighbour.tasks.add", (1, 2)).get(timeout=30) == 3
        assert metric(site, "petiole_memory_budget_bytes") == BUDGET * MIB
        idle, before, descriptors = metric(site, "petiole_memory_used_bytes"), site.rss(), site.descriptors()
        with Peak(site) as peak:
            hungry = [site.call("hostile.memory_bomb.attack", ()) for _ in range(HUNGRY)]
            lists = [site.call("hostile.giant_list.attack", (LENGTH,)) for _ in range(LISTS)]
            neighbours = [site.call("neighbour.tasks.add", (number, 1)) for number in range(NEIGHBOURS)]
            said = {type(one.get(timeout=180, propagate=False)).__name__ for one in hungry}
            long = {len(one.get(timeout=180)) for one in lists}
            right = [one.get(timeout=180) for one in neighbours]
        waits = site.new_log().count("other tasks have all of memory_budget")
        after, _ = site.settled(before, descriptors, tolerance=LEFT)
        with capsys.disabled():
            mib = [f"{kib / 1024:.0f}" for kib in (before, peak.most, after)]
            print(f"\n{HUNGRY} hungry tasks, {BUDGET} MiB: RSS {' -> '.join(mib)} MiB; {waits} deliveries given back")
        assert said == {"MemoryLimitExceeded"}
        assert long == {LENGTH}
        assert right == [number + 1 for number in range(NEIGHBOURS)]
        assert peak.most <= before + (BUDGET + PLANS) * 1024
        assert after <= before + LEFT
        wait_until(lambda: metric(site, "petiole_memory_used_bytes") == idle, "all of the budget is given back")
        site.worker.check()
    finally:
        site.close()


# Groups in groups around dense JSON, and how many such messages come at once, for so many slots.
LEVELS, DENSE, NESTED, FEW = 38, 4 * MIB, 16, 4
# What each byte of such JSON may take for each slot, at most: decoded, and in the plan.
DECODED = 100


def test_what_is_nested_is_not_copied(tmp_path, component, amqp_url, redis_url, capsys):
    """Kilobytes that are megabytes of JSON once they are decompressed, 38 levels deep: each message in a slot takes
    memory in proportion to its text, however deep that stands, and those that wait take none."""
    inner = '{"task":"nobody.has.this","args":[[' + "0," * (DENSE // 2) + '0]],"kwargs":{},"options":{}}'
    group = '{"task":"celery.group","args":[],"options":{},"subtask_type":"group","kwargs":{"tasks":['
    callback = group * LEVELS + inner + "]}}" * LEVELS
    body = zlib.compress(f'[[1,2],{{}},{{"callbacks":[{callback}]}}]'.encode(), 9)
    site = HostileSite(tmp_path, component, amqp_url, redis_url, {}, slots=FEW)
    try:
        site.start(neighbours=False)
        assert site.call("neighbour.tasks.add", (1, 2)).get(timeout=30) == 3
        before = site.rss()
        headers = {"task": "neighbour.tasks.add", "compression": "application/x-gzip"}
        ids = [f"{site.queue}-{number}" for number in range(NESTED)]
        with Peak(site) as peak:
            site.publish([({**headers, "id": one}, body) for one in ids])
            assert [site.app.AsyncResult(one).get(timeout=60) for one in ids] == [3] * NESTED
            refused = lambda: site.worker.log().count("nobody.has.this") >= NESTED  # noqa: E731
            wait_until(refused, "what the groups hold is refused")
        after, _ = site.settled(before, site.descriptors(), tolerance=LEFT)
        with capsys.disabled():
            mib = [f"{kib / 1024:.0f}" for kib in (before, peak.most, after)]
            print(f"\n{NESTED} messages of {len(body)} bytes, {FEW} slots: RSS {' -> '.join(mib)} MiB")
        assert peak.most <= before + FEW * DECODED * DENSE // 1024
        assert after <= before + LEFT
        site.worker.check()
    finally:
        site.close()


def metric(site, name):
    request = urllib.request.Request(f"{site.worker.http}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return int(re.search(rf"^{name}(?:{{[^}}]*}})? (\d+)", reply.read().decode(), re.MULTILINE)[1])
