"""A stream of small tasks with known answers, and what became of them.

Run as a program, it is the stream: a process of its own, so that nothing that the tests do delays it. It sends a task
every `PERIOD`, whether or not the one before has been answered, and writes a line for each answer: its number, when it
was sent, how many milliseconds that took (until Redis told of the result), and whether it was right.
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
# Of the tasks that a window has room for, the part that must have been sent in it: its p99 is one of something.
SENT = 0.1


class Neighbours(Process):
    """The stream, seen by a test."""

    def __init__(self, folder, amqp_url, redis_url, queue, task):
        self.samples, self.rest, self.offset = [], "", 0
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
                number, sent, took, right = line.split()
                self.samples.append((int(number), float(sent), float(took), right == "right"))
            except ValueError:
                raise AssertionError(f"the stream of neighbours: {line}") from None

    def window(self, start, end):
        """The samples sent between two times of `time.monotonic()`, once all of them have been answered."""

        def answered():
            self.check()
            self.read()
            numbers = [number for number, sent, _, _ in self.samples if sent <= end]
            return any(sent > end for _, sent, _, _ in self.samples) and len(numbers) == max(numbers, default=-1) + 1

        wait_until(answered, "every neighbour is answered", LOST)
        samples = [sample for sample in self.samples if start <= sample[1] <= end]
        assert len(samples) >= SENT * (end - start) / PERIOD, f"{len(samples)} neighbours in {end - start:.2f} s"
        return samples


def wrong_results(samples):
    return [f"neighbour {number} got a wrong result" for number, _, _, right in samples if not right]


def p99(samples):
    """Milliseconds."""
    times = sorted(took for _, _, took, _ in samples)
    return times[min(len(times) - 1, int(len(times) * 0.99))]


def stream(amqp_url, redis_url, queue, task):
    import redis
    from kombu import Connection

    prefix, sent = f"neighbour-{uuid.uuid4().hex[:8]}-", {}
    results = redis.Redis.from_url(redis_url).pubsub(ignore_subscribe_messages=True)
    results.psubscribe(f"celery-task-meta-{prefix}*")

    def receive():
        for message in results.listen():
            now = time.monotonic()
            number = int(message["channel"].decode().rpartition("-")[2])
            meta, start = json.loads(message["data"]), sent.pop(number)
            right = meta["status"] == "SUCCESS" and meta["result"] == number + 1
            print(number, start, (now - start) * 1000, "right" if right else f"wrong:{meta}", flush=True)

    threading.Thread(target=receive, daemon=True).start()
    with Connection(amqp_url) as connection:
        channel, number, due = connection.default_channel, 0, time.monotonic()
        while True:
            task_id = f"{prefix}{number}"
            message = channel.prepare_message(
                json.dumps([[number, 1], {}, {}]),
                content_type="application/json",
                content_encoding="utf-8",
                headers={"task": task, "id": task_id, "root_id": task_id, "lang": "py"},
                properties={"delivery_mode": 1, "correlation_id": task_id},
            )
            sent[number] = time.monotonic()
            channel.basic_publish(message, exchange="", routing_key=queue)
            number += 1
            due = max(due + PERIOD, time.monotonic() - PERIOD)
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    stream(*sys.argv[1:])
