"""A load of tasks with known ends, for tests that inject faults, and their outcomes."""

import itertools
import json
import os
import re
import threading
import time
import uuid
from collections import Counter

from fault_report import FAULTS, Row
from oracle import FINAL, Expected, check
from waiting import wait_until

DRAIN_DEADLINE = 180.0
# Messages of a worker that a fault may meet between publish and mark: at most one for each running task (Petiole's default is
# 16 for each processor), and as many for tasks that have just ended.
IN_FLIGHT = 2 * 16 * (os.cpu_count() or 1)


class Beside:
    """Something that runs beside a test, until that says that it is to end."""

    def __init__(self):
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


class Load(Beside):
    """Sends tasks with callbacks until it is told to stop, and keeps the expected end of each."""

    def __init__(self, app, pause, has_python=False, retries=True):
        super().__init__()
        self.has_python, self.retries = has_python, retries
        self.app, self.pause, self.expected, self.error = app, pause, [], None

    def run(self):
        kinds = [self.with_callback, self.with_errback, self.chain, self.that_sleeps, self.parent]
        kinds += [self.that_retries] if self.retries else []
        kinds = itertools.cycle([*kinds, self.python] if self.has_python else kinds)
        try:
            for number, kind in enumerate(kinds):
                if self.stopped.is_set():
                    return
                expected = kind(number)
                self.expected.extend(expected)
                time.sleep(self.pause)
        except Exception as error:  # the test fails with it
            self.error = error

    def goes_on(self, number):
        """Waits until it has sent this many more."""
        goal = len(self.expected) + number
        wait_until(lambda: len(self.expected) >= goal or self.error, "the load goes on", DRAIN_DEADLINE)

    def task(self, name, /, *args, **options):
        # The ids are ours, so that a message that is sent twice stays the same task.
        options.setdefault("task_id", str(uuid.uuid4()))
        return self.app.signature(name, args=args, options=options)

    def send(self, signature):
        """Sends a task, again until the broker has confirmed it."""
        policy = {"max_retries": 60, "interval_start": 0.2, "interval_step": 0.2, "interval_max": 1}
        signature.apply_async(retry=True, retry_policy=policy)

    def with_callback(self, number):
        callback = self.task("probe.tasks.add", 1000)
        s = self.task("probe.tasks.add", number, 1)
        s.link(callback)
        self.send(s)
        return [Expected(s.id, "SUCCESS", number + 1), Expected(callback.id, "SUCCESS", number + 1001)]

    def with_errback(self, number):
        errback = self.task("probe.tasks.echo")
        s = self.task("probe.tasks.fail", f"number {number}")
        s.link_error(errback)
        self.send(s)
        return [Expected(s.id, "FAILURE"), Expected(errback.id, "SUCCESS", s.id)]

    def chain(self, number):
        first, second, third = (self.task("probe.tasks.add", *args) for args in ((number, 1), (10,), (100,)))
        first_id, second_id, third_id = first.id, second.id, third.id
        self.send(first | second | third)
        results = ((first_id, number + 1), (second_id, number + 11), (third_id, number + 111))
        return [Expected(task_id, "SUCCESS", result) for task_id, result in results]

    def that_sleeps(self, number):
        s = self.task("probe.tasks.sleep_ms", 20)
        callback = self.task("probe.tasks.add", 1, number).set(immutable=True)
        s.link(callback)
        self.send(s)
        return [Expected(s.id, "SUCCESS", 20), Expected(callback.id, "SUCCESS", number + 1)]

    def that_retries(self, number):
        s = self.task("probe.tasks.retry_until", 2, 10)
        callback = self.task("probe.tasks.add", number)
        s.link(callback)
        self.send(s)
        return [Expected(s.id, "SUCCESS", 2), Expected(callback.id, "SUCCESS", number + 2)]

    def parent(self, number):
        """A task that sends another one, whose id is the worker's to make: the same one each time."""
        s = self.task("probe.tasks.send_child", "probe.tasks.echo", [number])
        self.send(s)
        return [Expected(s.id, "SUCCESS", child_of(s.id)), Expected(child_of(s.id), "SUCCESS", number)]

    def python(self, number):
        """A chain of callbacks from Wasm to Python and back."""
        s, second, third = self.task("probe.tasks.add", number, 1), self.task("py.add", 10), self.task("probe.tasks.add", 5)
        second.link(third)
        s.link(second)
        self.send(s)
        results = ((s.id, number + 1), (second.id, number + 11), (third.id, number + 16))
        return [Expected(task_id, "SUCCESS", result) for task_id, result in results]


# As `host/celery/src/id.rs` makes them.
CHILDREN = uuid.UUID("de8fc35b-f169-5d38-b678-339f0c12758d")


def child_of(task_id, kind="sent"):
    """The id of the first task that a task sends, or that follows it as a `callback` or an `errback`."""
    return str(uuid.uuid5(CHILDREN, f"0/{kind}/0/{task_id}"))


class Announcements(Beside):
    """Every state that a worker stores, in order, as Redis announces it."""

    def __init__(self, client):
        super().__init__()
        self.states, self.channel = [], client.pubsub(ignore_subscribe_messages=True)
        self.channel.psubscribe("celery-task-meta-*")

    def run(self):
        # Announcements from before the end are all read.
        while (message := self.channel.get_message(timeout=0.2)) is not None or not self.stopped.is_set():
            meta = json.loads(message["data"]) if message is not None else {}
            # A worker that starts tries whether it may announce anything.
            if meta:
                self.states.append((meta["task_id"], meta["status"]))

    def __exit__(self, *_):
        super().__exit__()
        self.channel.close()


def fetch(client, task_ids):
    """Reads the stored result of each."""
    stored = {}
    for batch in batches(task_ids, 1000):
        for task_id, text in zip(batch, client.mget([f"celery-task-meta-{one}" for one in batch]), strict=True):
            if text is not None:
                stored[task_id] = json.loads(text)
    return stored


def batches(items, size):
    items = list(items)
    return (items[start : start + size] for start in range(0, len(items), size))


def drain(client, expected, worker):
    """Waits until everything has ended; returns what is stored."""
    stored, open_ids = {}, {one.task_id for one in expected}

    def all_ended():
        worker.check()
        for task_id, meta in fetch(client, open_ids).items():
            if meta["status"] in FINAL:
                stored[task_id] = meta
                open_ids.discard(task_id)
        return not open_ids

    try:
        wait_until(all_ended, "all has ended", DRAIN_DEADLINE, poll=0.2)
    except AssertionError:
        pass  # the verdict lists what has not
    return stored


ENDED = re.compile(r"Task \S+\[(\S+)\] (?:succeeded in|raised) ")


def judge(what, faults, expected, stored, announced, twice, *workers):
    """Enters a run into the table of faults, and holds that nothing is lost, and that no task was brought to an end
    twice: what is stored once may have been done twice, which the workers themselves tell."""
    verdict = check(expected, stored, announced)
    told = Counter(task_id for worker in workers for task_id in ENDED.findall(worker.log()))
    verdict.duplicates |= {task_id: times - 1 for task_id, times in told.items() if times > 1}
    FAULTS.add(Row(what, faults, len(expected), verdict, sum(twice.values())))
    assert verdict.holds(), (
        f"lost: {verdict.lost[:20]}\nwrong: {verdict.wrong[:20]}\nunexpected: {verdict.unexpected[:20]}"
        f"\nunheard: {verdict.unheard[:20]}"
    )
    assert not verdict.duplicates, "the end of a run is committed once"
    limit = min(faults * IN_FLIGHT, IN_FLIGHT + len(expected) // 4)
    doubled = sum(twice.values())
    assert doubled <= limit, f"{doubled} published twice: no more than {limit} may have been between publish and mark"
