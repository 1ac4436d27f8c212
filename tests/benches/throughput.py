"""Tasks per second of a Petiole worker, of Celery's prefork worker, and of a raw consume-and-ack loop.

Each empties a queue that was filled before it started. One observer measures them all, from the outside: the
broker's own count of the messages that still wait. The clock starts when a tenth of them is gone, so that the
time to start is left out.

Where the broker has the same processors as the worker, it takes most of them. So the worker's own processor time
for a task is told too: it says how many tasks a processor does that the worker has for itself.
"""

import argparse
import os
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

SYSTEM = Path(__file__).parents[1] / "system"
sys.path.insert(0, str(SYSTEM))

from celery import Celery  # noqa: E402
from kombu import Exchange, Queue  # noqa: E402
from kombu.serialization import dumps  # noqa: E402

from servers import Process, Worker  # noqa: E402
from waiting import wait_until  # noqa: E402

DEADLINE = 600.0
# Celery gets one in this many of the messages: all would take too long.
CELERYS_SHARE = 5
TASK = "probe.tasks.add"


@contextmanager
def filled(app, messages, ignore_result):
    """A queue of messages as Celery's producer writes them, sent without its costs; and how many wait."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        queue = Queue(name, Exchange(name), name)(channel)
        queue.declare()
        headers, properties, body, _ = app.amqp.as_task_v2("", TASK, args=(1, 2), ignore_result=ignore_result)
        content_type, content_encoding, body = dumps(body, serializer="json")
        for _ in range(messages):
            task_id = str(uuid.uuid4())
            message = channel.prepare_message(
                body,
                content_type=content_type,
                content_encoding=content_encoding,
                headers={**headers, "id": task_id, "root_id": task_id},
                properties={**properties, "correlation_id": task_id, "delivery_mode": 2},
            )
            channel.basic_publish(message, exchange="", routing_key=name)

        def waiting():
            return queue.queue_declare(passive=True).message_count

        wait_until(lambda: waiting() == messages, "the queue is full", DEADLINE)
        yield name, waiting
        queue.delete()


def processor_time(root):
    """Seconds that a process and its descendants have used (proc(5): fields 4, 14 and 15 of stat)."""
    times, children = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        pid = int(stat.parent.name)
        times[pid] = int(fields[11]) + int(fields[12])
        children.setdefault(int(fields[1]), []).append(pid)
    pids, total = [root], 0
    while pids:
        pid = pids.pop()
        total += times.get(pid, 0)
        pids += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


def measure(process, waiting, messages):
    """Messages per second that the process takes, and the microseconds of processor time that each costs it."""
    process.start()
    try:

        def down_to(share):
            def reached():
                process.check()
                left = waiting()
                if left > messages * share:
                    return None
                return messages - left, time.monotonic(), processor_time(process.process.pid)

            return wait_until(reached, lambda: process.log()[-4000:], DEADLINE, poll=0.005)

        gone, start, used = down_to(0.9)
        all_gone, end, all_used = down_to(0.02)
        number = all_gone - gone
        return number / (end - start), (all_used - used) / number * 1e6
    finally:
        process.kill()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--messages", type=int, required=True)
    arguments.add_argument("--raw-lapin", required=True)
    arguments = arguments.parse_args()
    amqp, redis = os.environ["PETIOLE_TEST_AMQP_URL"], os.environ["PETIOLE_TEST_REDIS_URL"]
    app = Celery("bench", broker=amqp)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        store, cache = f"file://{folder}/modules", folder / "cache"
        component = Path(os.environ["PETIOLE_TEST_COMPONENTS"]) / "probe.wasm"
        push = [os.environ["PETIOLE_BIN"], "push", component, "--name", "probe.tasks", "--store", store]
        pushed = Process(push, folder / "push.log", {"PETIOLE_CACHE": cache}).start()
        assert pushed.wait() == 0, pushed.log()

        def lapin(queue):
            return Process([arguments.raw_lapin, amqp, queue], folder / "lapin.log")

        def petiole(results):
            def worker(queue):
                options = ["--loglevel", "warning"]
                settings = {"broker": amqp, "results": results, "store": store, "queues": [queue]}
                return Worker(folder, name=queue, options=options, env={"PETIOLE_CACHE": cache}, **settings)

            return worker

        def celery(queue):
            command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-P", "prefork", "-c", "2"]
            command += ["-l", "warning", "-Q", queue, "--without-gossip", "--without-mingle", "--without-heartbeat"]
            env = {"CELERY_BROKER_URL": amqp, "CELERY_RESULT_BACKEND": redis}
            return Process(command, folder / "celery.log", env, cwd=Path(__file__).parent)

        few = max(arguments.messages // CELERYS_SHARE, 100)
        contenders = [
            ("raw lapin: consume, ack", lapin, arguments.messages, True),
            ("petiole, result ignored", petiole("disabled://"), arguments.messages, True),
            ("petiole, result in Redis", petiole(redis), arguments.messages, False),
            ("celery prefork -c 2, result ignored", celery, few, True),
            ("celery prefork -c 2, result in Redis", celery, few, False),
        ]
        print(f"{'':<38}{'messages':>10}{'tasks/s':>10}{'own us/task':>13}")
        for name, contender, messages, ignore_result in contenders:
            with filled(app, messages, ignore_result) as (queue, waiting):
                rate, cost = measure(contender(queue), waiting, messages)
                print(f"{name:<38}{messages:>10}{rate:>10.0f}{cost:>13.0f}", flush=True)


if __name__ == "__main__":
    main()
