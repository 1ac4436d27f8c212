"""The memory of all tasks together (`memory_budget`), and of messages beside it."""

import re
import threading
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import wasm_binary
from celery import chain
from conftest import petiole, producer, publish
from hostile_site import HostileSite, Peak
from proxy import TO_SERVER, behind
from servers import metric
from waiting import wait_until

pytestmark = pytest.mark.alone

MIB = 1024 * 1024
BUDGET, LIMIT, SLOTS = 1536, 256, 32
# basic.publish
PUBLISH = b"\x00\x3c\x00\x28"
# A budget, in MiB, that few messages use up.
SMALL = 512
HUNGRY, LISTS, NEIGHBOURS = 64, 16, 100
# A list of this many truth values takes some 25 MB in the worker, of which each of up to 8 processors may have as much.
LENGTH = 200_000
# Beside the budget, in MiB: what an allocator keeps for each of the threads.
ALLOCATOR = 64
# Growth of RSS that may remain, in KiB: 150 MB.
LEFT = 150_000_000 // 1024


@contextmanager
def within(folder, component, amqp_url, redis_url, capsys, what, budget=SMALL, env=None):
    """A worker with 32 slots that stays within this many MiB, and gives all of it back."""
    env = {"PETIOLE_MEMORY_BUDGET": f"{budget}MiB", **(env or {})}
    site = HostileSite(folder, component, amqp_url, redis_url, {}, slots=SLOTS, env=env)
    try:
        site.start(neighbours=False)
        assert site.push("probe.tasks", component("probe").read_bytes())[0] == 201
        assert site.call("probe.tasks.add", (1, 2)).get(timeout=30) == 3
        assert metric(site.worker, "petiole_memory_budget_bytes") == budget * MIB
        idle, before, descriptors = metric(site.worker, "petiole_memory_used_bytes"), site.rss(), site.descriptors()
        with Peak(site) as peak:
            yield site
        after, _ = site.settled(before, descriptors, tolerance=LEFT)
        with capsys.disabled():
            mib = [f"{kib / 1024:.0f}" for kib in (before, peak.most, after)]
            print(f"\n{what}, {budget} MiB: RSS {' -> '.join(mib)} MiB")
        assert peak.most <= before + (budget + ALLOCATOR) * 1024
        assert after <= before + LEFT
        wait_until(lambda: metric(site.worker, "petiole_memory_used_bytes") == idle, "all of the budget is given back")
        site.worker.check()
    finally:
        site.close()


def test_hungry_tasks_share_a_budget(tmp_path, component, amqp_url, redis_url, capsys):
    """Tasks that take all they may, of a budget for two of them: each fails for its own limit or has its result, and
    none for the others."""
    env = {"PETIOLE_MEMORY_LIMIT": f"{LIMIT}MiB"}
    what = f"{HUNGRY} hungry tasks"
    with within(tmp_path, component, amqp_url, redis_url, capsys, what, BUDGET, env) as site:
        for guest in ("memory_bomb", "giant_list"):
            assert site.push(f"hostile.{guest}", component(f"hostile/{guest}").read_bytes())[0] == 201
        hungry = [site.call("hostile.memory_bomb.attack", ()) for _ in range(HUNGRY)]
        lists = [site.call("hostile.giant_list.attack", (LENGTH,)) for _ in range(LISTS)]
        neighbours = [site.call("neighbour.tasks.add", (number, 1)) for number in range(NEIGHBOURS)]
        assert {type(one.get(timeout=180, propagate=False)).__name__ for one in hungry} == {"MemoryLimitExceeded"}
        assert {len(one.get(timeout=180)) for one in lists} == {LENGTH}
        assert [one.get(timeout=180) for one in neighbours] == [number + 1 for number in range(NEIGHBOURS)]


# Levels of groups around dense JSON, its size, the number of such messages at once, and of slots.
LEVELS, DENSE, NESTED, FEW = 38, 4 * MIB, 16, 4
# Bytes of memory for each byte of such JSON in a slot, at most: decoded, and in the plan.
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


def test_what_follows_stays_within_the_budget(tmp_path, component, amqp_url, redis_url, capsys):
    """Results that go to thirty callbacks each, which is as much as may follow a task; and one that is more."""
    with within(tmp_path, component, amqp_url, redis_url, capsys, "32 results of 450 kB for 30 callbacks each") as site:
        links = [site.app.signature("nobody.reads.this", queue=f"{site.queue}-out") for _ in range(30)]
        with site.app.connection_for_write() as connection:
            connection.default_channel.queue_declare(f"{site.queue}-out", durable=True)
        try:
            call = lambda size: site.app.send_task("probe.tasks.large_result", (size,), link=links)  # noqa: E731
            tasks, large = [call(450_000) for _ in range(32)], call(600_000)
            assert {len(task.get(timeout=120)) for task in tasks} == {450_000}
            with pytest.raises(Exception, match="the messages that follow it take more than the 14680064 bytes"):
                large.get(timeout=60)
        finally:
            with site.app.connection_for_write() as connection:
                connection.default_channel.queue_delete(f"{site.queue}-out")


def test_what_is_kept_stays_within_the_budget(tmp_path, component, amqp_url, redis_url, capsys):
    """Large messages of a task that nobody has: each is kept in quarantine, with a FAILURE."""
    with within(tmp_path, component, amqp_url, redis_url, capsys, "60 refused messages of 4 MiB") as site:
        tasks = [site.app.send_task("nobody.has.this", ("x" * (4 * MIB),)) for _ in range(60)]
        classes = {type(task.get(timeout=120, propagate=False)).__name__ for task in tasks}
        assert classes == {"NotRegistered"}


def test_what_follows_refusals_stays_within_the_budget(tmp_path, component, amqp_url, redis_url, capsys):
    """Small messages of a task that nobody has, with an errback that unfolds to 12 MB each, while the broker takes none of
    what is published."""
    proxy, url = behind(amqp_url)
    with within(tmp_path, component, url, redis_url, capsys, "60 refused messages with 12 MB of errbacks each") as site:
        with short_queue(site, f"{site.queue}-out") as out:
            steps = [site.app.signature("nobody.reads.this", queue=out) for _ in range(60)]
            errback = chain(steps).set(link_error=[site.app.signature("nor.this", ("x" * 200_000,), queue=out)])
            tasks = [site.app.send_task("nobody.has.this", link_error=[errback]) for _ in range(60)]
            hold_up(proxy, site)
            classes = {type(task.get(timeout=120, propagate=False)).__name__ for task in tasks}
            assert classes == {"NotRegistered"}


def test_what_is_retried_stays_within_the_budget(tmp_path, component, amqp_url, redis_url, capsys):
    """Tasks that ask for a retry, each with a callback of 4 MB, while the broker takes none of what is published."""
    proxy, url = behind(amqp_url)
    with within(tmp_path, component, url, redis_url, capsys, "60 retries with 4 MB each") as site:
        with short_queue(site, f"{site.queue}-out") as out:
            link = site.app.signature("nobody.reads.this", ("x" * (4 * MIB),), queue=out)
            call = lambda: site.app.send_task("probe.tasks.retry_until", (2, 10), link=[link])  # noqa: E731
            tasks = [call() for _ in range(60)]
            hold_up(proxy, site)
            assert [task.get(timeout=120) for task in tasks] == [2] * 60


@contextmanager
def short_queue(site, name):
    """A queue that nobody reads, which keeps one message."""
    with site.app.connection_for_write() as connection:
        connection.default_channel.queue_declare(name, durable=True, arguments={"x-max-length": 1})
    try:
        yield name
    finally:
        with site.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(name)


def hold_up(proxy, site):
    """Holds up the worker's messages until all is planned that there is room for."""
    taken = threading.Event()
    proxy.trap = lambda direction, data: direction == TO_SERVER and PUBLISH in data and not taken.wait(120)
    try:
        wait_until(lambda: stands(site.rss), "all that can be planned is", poll=1)
    finally:
        taken.set()


def stands(figure):
    """True if a figure, in KiB, is about the same after a second."""
    before = figure()
    time.sleep(1)
    return abs(figure() - before) < 1024


def test_what_is_decoded_stays_within_the_budget(tmp_path, component, amqp_url, redis_url, capsys):
    """Lists of small numbers, compressed: as many are decoded at once as there is room for; one that may take more than
    all of that is refused."""
    with within(tmp_path, component, amqp_url, redis_url, capsys, "64 lists of 100,000 numbers") as site:
        call = lambda count: site.app.send_task(  # noqa: E731
            "probe.tasks.echo", ([0] * count,), compression="gzip"
        )
        tasks, large = [call(100_000) for _ in range(64)], call(1_000_000)
        assert {len(task.get(timeout=120)) for task in tasks} == {100_000}
        with pytest.raises(Exception, match="bytes of memory, over the 29360128 that the worker has for one message"):
            large.get(timeout=60)


# A page of a core module's memory, in bytes.
PAGE = 64 * 1024
# (loop (br 0))
FOR_EVER = b"\x03\x40\x0c\x00\x0b\x0b"


def test_a_task_that_others_keep_from_its_memory_comes_again(tmp_path, amqp_url, redis_url, queue, start_worker):
    """Two that hold all the memory that there is for tasks, for longer than a third one may wait: its message goes back to
    its queue, and comes again when they are gone. It has the time limit of 1 s, which is how long it waits."""
    store = f"file://{tmp_path}/modules"
    for name, code in (("holder", FOR_EVER), ("waiter", b"\x0b")):
        file = tmp_path / f"{name}.wasm"
        # Of the 73 MiB that there are for all of 208 MiB two have 30 each, beside the 2 MiB that each slot has.
        module = wasm_binary.core_module(code, pages=32 * MIB // PAGE)
        file.write_bytes(wasm_binary.component(module=module))
        petiole("push", file, "--name", name, "--store", store)
    worker = start_worker(queue, "-c", "4", store=store, env={"PETIOLE_MEMORY_BUDGET": "208MiB"})
    idle = metric(worker, "petiole_memory_used_bytes")
    with producer(amqp_url, redis_url, queue) as app:
        holders = [app.send_task("holder.attack", time_limit=10) for _ in range(2)]
        wait_until(lambda: metric(worker, "petiole_memory_used_bytes") >= idle + 60 * MIB, worker.log)
        waiter = app.send_task("waiter.attack", time_limit=1)
        wait_until(lambda: f"[{waiter.id}] waits in the broker" in worker.log(), worker.log)
        assert waiter.get(timeout=60) is None
        classes = {type(holder.get(timeout=60, propagate=False)).__name__ for holder in holders}
    assert classes == {"TimeLimitExceeded"}, "their time-outs are their own"
    log = worker.log()
    assert log.count(f"[{waiter.id}] received") > 1 and f"[{waiter.id}] refused" not in log
    assert not any(f"[{holder.id}] waits" in log for holder in holders)


def test_no_more_tasks_begin_than_their_messages_have_room_for(amqp_url, queue, start_worker):
    """While the broker takes no messages: an eighth of the budget, 32 MiB, has room for those of seven tasks that send
    1 MiB each, which counts four times; then each of two slots is kept."""
    proxy, url = behind(amqp_url)
    options = ["-c", "2", "--prefetch-multiplier", "16", "--route", f"out.*={queue}-out"]
    settings = {"results": "disabled://", "env": {"PETIOLE_MEMORY_BUDGET": "256MiB"}}
    worker = start_worker(queue, *options, broker=url, **settings)
    taken = threading.Event()
    proxy.trap = lambda direction, data: direction == TO_SERVER and PUBLISH in data and not taken.wait(120)
    with producer(amqp_url, None, queue) as app:
        for _ in range(30):
            app.signature("probe.tasks.large_result", args=(MIB,)).apply_async(link=app.signature("out.next"))
        wait_until(lambda: "keeps its slot" in worker.log(), worker.log)
        assert worker.log().count("] received") <= 9
        taken.set()
        wait_until(lambda: worker.log().count("] succeeded") == 30, worker.log)


# Messages that come while the one slot is taken, and their size in bytes. The worker may take for them its memory for
# messages, one of them beyond it, and copies while one is decoded.
PREFETCHED, LARGE = 60, 12 * MIB
TAKEN = 32 * MIB + 4 * LARGE


def test_what_is_prefetched_stays_within_its_memory(rabbitmq, app, queue, start_worker, capsys):
    """Of 720 MB that are prefetched as many messages are in memory as a sixteenth of the budget has room for, and one. The
    others stay in their queue, or go back to it: no oftener than it is safe, and none is lost or run twice."""
    env = {"PETIOLE_MEMORY_BUDGET": "512MiB"}
    worker = start_worker(queue, "-c", "1", "--prefetch-multiplier", "64", broker=rabbitmq.url, env=env)
    site = SimpleNamespace(rss=lambda: resident(worker))
    assert app.send_task("probe.tasks.add", (1, 2)).get(timeout=30) == 3
    before = site.rss()
    ids = [f"{queue}-{number}" for number in range(PREFETCHED)]
    with Peak(site) as peak:
        app.send_task("probe.tasks.sleep_ms", (10000,))
        for one in ids:
            publish(app, queue, b"[[1, 2], {}, {}]".ljust(LARGE), headers={"task": "probe.tasks.add", "id": one})
        assert metric(worker, "petiole_messages_bytes") >= LARGE
        assert [app.AsyncResult(one).get(timeout=120) for one in ids] == [3] * PREFETCHED
    log = worker.log()
    with capsys.disabled():
        mib = [f"{kib / 1024:.0f}" for kib in (before, peak.most, site.rss())]
        print(f"\n{PREFETCHED} messages of {LARGE // MIB} MiB: RSS {' -> '.join(mib)} MiB")
    assert all(log.count(f"[{one}] received") == 1 for one in ids)
    wait_until(lambda: metric(worker, "petiole_messages_bytes") == 0, "all of it is given back")
    assert waiting_in(app, queue) == 0
    assert peak.most <= before + TAKEN // 1024


def resident(worker):
    """In KiB."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1])


def waiting_in(app, queue):
    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue, passive=True).message_count
