"""A stream of small tasks with known answers, each with a callback, and what became of them.

Run as a program, it is the stream: a process of its own, so that nothing that the tests do delays it. It sends a task
every `PERIOD`, whether or not the one before has been answered, and writes a line for each answer: its number, when it
was sent, how many milliseconds that took (until Redis told of the result), whether it was right, and whether it is the
task's own or its callback's.
"""

import json
import sys
import threading
import time
import uuid
from pathlib import Path

from servers import HERE, Process
from waiting import wait_until

PERIOD = 0.004
LOST = 10.0
TASK, CALLBACK = "task", "callback"
# The callback adds this to the task's result.
MORE = 1000
# Of the tasks that a window has room for, the part that must have been sent in it: its p99 is one of something.
SENT = 0.1


class Neighbours(Process):
    """The stream, seen by a test."""

    def __init__(self, folder, amqp_url, redis_url, queue, task):
        self.samples, self.called, self.wrong, self.rest, self.offset = [], set(), [], "", 0
        command = [sys.executable, HERE / "neighbours.py", amqp_url, redis_url, queue, task]
        super().__init__(command, Path(folder) / "neighbours.log")

    def read(self):
        with self.log_file.open() as log:
            log.seek(self.offset)
            text = self.rest + log.read()
            self.offset = log.tell()
        *lines, self.rest = text.split("\n")
        for line in lines:
            try:
                number, sent, took, right, part = line.split()
                if right != "right":
                    self.wrong.append(f"neighbour {number} got {right} for its {part}")
                if right == "twice":
                    continue
                if part == CALLBACK:
                    self.called.add(int(number))
                else:
                    self.samples.append((int(number), float(sent), float(took)))
            except ValueError:
                raise AssertionError(f"the stream of neighbours: {line}") from None

    def window(self, start, end):
        """The samples sent between two times of `time.monotonic()`, once all of them have been answered, and their
        callbacks too."""

        def answered():
            self.check()
            self.read()
            numbers = {number for number, sent, _ in self.samples if sent <= end}
            later = any(sent > end for _, sent, _ in self.samples)
            return later and len(numbers) == max(numbers, default=-1) + 1 and numbers <= self.called

        wait_until(answered, lambda: f"every neighbour is answered; {self.wrong[:10]}", LOST)
        samples = [sample for sample in self.samples if start <= sample[1] <= end]
        assert len(samples) >= SENT * (end - start) / PERIOD, f"{len(samples)} neighbours in {end - start:.2f} s"
        return samples

    def take_wrong(self):
        """Takes the wrong answers since the last time, those that came twice included."""
        wrong, self.wrong = self.wrong, []
        return wrong


def p99(samples):
    """In milliseconds."""
    times = sorted(took for _, _, took in samples)
    return times[min(len(times) - 1, int(len(times) * 0.99))]


def stream(amqp_url, redis_url, queue, task):
    import redis
    from kombu import Connection

    prefix, sent = f"neighbour-{uuid.uuid4().hex[:8]}-", {}
    results = redis.Redis.from_url(redis_url).pubsub(ignore_subscribe_messages=True)
    results.psubscribe(f"celery-task-meta-{prefix}*")

    def receive():
        for message in results.listen():
            now, meta = time.monotonic(), json.loads(message["data"])
            *_, part, number = message["channel"].decode().split("-")
            number = int(number)
            start = sent.pop((number, part), None)
            if start is None:
                print(number, 0, 0, "twice", part, flush=True)
                continue
            wanted = number + 1 + (MORE if part == CALLBACK else 0)
            right = (meta["status"], meta["result"]) == ("SUCCESS", wanted)
            said = "right" if right else json.dumps(meta).replace(" ", "")
            print(number, start, (now - start) * 1000, said, part, flush=True)

    threading.Thread(target=receive, daemon=True).start()
    with Connection(amqp_url) as connection:
        channel, number, due = connection.default_channel, 0, time.monotonic()
        while True:
            task_id = f"{prefix}{TASK}-{number}"
            options = {"task_id": f"{prefix}{CALLBACK}-{number}", "queue": queue, "delivery_mode": 1}
            callback = {"task": task, "args": [MORE], "kwargs": {}, "options": options, "subtask_type": None}
            message = channel.prepare_message(
                json.dumps([[number, 1], {}, {"callbacks": [callback]}]),
                content_type="application/json",
                content_encoding="utf-8",
                headers={"task": task, "id": task_id, "root_id": task_id, "lang": "py"},
                properties={"delivery_mode": 1, "correlation_id": task_id},
            )
            sent[number, TASK] = sent[number, CALLBACK] = time.monotonic()
            channel.basic_publish(message, exchange="", routing_key=queue)
            number += 1
            due = max(due + PERIOD, time.monotonic() - PERIOD)
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    stream(*sys.argv[1:])
