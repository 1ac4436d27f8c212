"""A worker that is lost at any step of a task's end: what the next one repeats. Each row of the table in
docs/semantics.md is a case here."""

import json
import threading
import urllib.request
import uuid
from collections import Counter

import pytest

from conftest import declare, petiole, producer, publish
from proxy import TO_CLIENT, TO_SERVER, behind
from servers import TOKEN
from waiting import wait_until

# AMQP 0-9-1: class and method of a frame.
PUBLISH, ACK = b"\x00\x3c\x00\x28", b"\x00\x3c\x00\x50"


class Redis:
    """Loses one of the worker's commands, or the answer to it. The first commit of a task with messages says how it
    ended, the second that all is confirmed."""

    def __init__(self, number, answer):
        self.number, self.answer, self.commits = number, answer, 0

    def __call__(self, direction, data):
        if direction == TO_SERVER and b"EVALSHA" in data and b"petiole-run-" in data:
            self.commits += 1
            return not self.answer and self.commits == self.number
        return direction == TO_CLIENT and self.answer and self.commits == self.number


def amqp(wanted, method):
    return lambda direction, data: direction == wanted and method in data


# The step at which the worker is lost: the server and the message that are lost with it.
STEPS = {
    "commit": ("results", lambda: Redis(1, answer=False)),
    "commit's answer": ("results", lambda: Redis(1, answer=True)),
    "publish": ("broker", lambda: amqp(TO_SERVER, PUBLISH)),
    "confirm": ("broker", lambda: amqp(TO_CLIENT, ACK)),
    "mark": ("results", lambda: Redis(2, answer=False)),
    "mark's answer": ("results", lambda: Redis(2, answer=True)),
    "ack": ("broker", lambda: amqp(TO_SERVER, ACK)),
}

# Backend, step, number of runs of the task, number of times that its callback is sent.
TABLE = [
    ("redis", "commit", 2, 1),
    ("redis", "commit's answer", 1, 1),
    ("redis", "publish", 1, 1),
    ("redis", "confirm", 1, 2),
    ("redis", "mark", 1, 2),
    ("redis", "mark's answer", 1, 1),
    ("redis", "ack", 1, 1),
    ("sqlite", "publish", 1, 1),
    ("sqlite", "confirm", 1, 2),
    ("sqlite", "ack", 1, 1),
    ("rpc", "publish", 2, 1),
    ("rpc", "confirm", 2, 2),
    ("rpc", "ack", 2, 2),
    ("disabled", "publish", 2, 1),
    ("disabled", "confirm", 2, 2),
    ("disabled", "ack", 2, 2),
]


@pytest.fixture
def results(tmp_path, redis_url):
    return {"redis": redis_url, "sqlite": f"sqlite://{tmp_path}/results.db", "rpc": "rpc://", "disabled": "disabled://"}


def runs(worker, task_id):
    return worker.log().count(f"[{task_id}] received")


def messages(app, queue):
    """The messages of a queue that nobody consumes."""
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        taken = []
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            taken.append(message.headers["id"])
        return taken


@pytest.mark.parametrize("backend", ["redis", "sqlite", "rpc", "disabled"])
def test_the_worker_is_lost_while_the_task_runs(backend, amqp_url, results, queue, start_worker):
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        task = app.signature("probe.tasks.sleep_ms", args=(600_000,)).apply_async()
        for _ in range(2):
            worker = start_worker(queue, results=results[backend])
            wait_until(lambda: runs(worker, task.id), worker.log)  # noqa: B023
            worker.kill()


@pytest.mark.parametrize(("backend", "step", "ran", "sent"), TABLE, ids=lambda value: str(value).replace(" ", "-"))
def test_the_worker_is_lost_at(backend, step, ran, sent, amqp_url, results, queue, start_worker):
    where, trap = STEPS[step]
    broker_proxy, broker_url = behind(amqp_url)
    results_proxy, results_url = behind(results["redis"]) if backend == "redis" else (None, results[backend])
    proxy = broker_proxy if where == "broker" else results_proxy
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        options = ["--concurrency", "1", "--route", f"out.*={queue}-out", "--quarantine-queue", f"{queue}-kept"]
        worker = start_worker(queue, *options, broker=broker_url, results=results_url)
        acked = broker_proxy.watch(amqp(TO_SERVER, ACK))
        app.signature("probe.tasks.add", args=(1, 1)).apply_async(link=app.signature("out.warm"))
        wait_until(lambda: messages(app, f"{queue}-out"), lambda: f"a callback\n{worker.log()}")
        assert acked.wait(30), worker.log()

        proxy.set_trap(trap(), worker.kill)
        callback = str(uuid.uuid4())
        link = app.signature("out.next", task_id=callback)
        task = app.signature("probe.tasks.add", args=(1, 2)).apply_async(link=link)
        assert proxy.sprung.wait(30), worker.log()
        worker.wait()
        if step != "ack":  # which has no answer: once it is written, it is a success
            assert f"[{task.id}] succeeded" not in worker.log()
        if proxy is not broker_proxy:
            broker_proxy.close()

        second = start_worker(queue, *options, broker=amqp_url, results=results[backend])
        last = app.signature("probe.tasks.add", args=(2, 2)).apply_async(link=app.signature("out.last"))
        wait_until(lambda: f"[{last.id}] succeeded" in second.log(), lambda: f"the last task ended\n{second.log()}")
        counts = Counter(messages(app, f"{queue}-out"))
        assert (runs(worker, task.id) + runs(second, task.id), counts[callback]) == (ran, sent), second.log()
        assert len(counts) == 2, "a callback that is sent again has the same id"


def lost_after_its_commit(app, amqp_url, queue, start_worker, options, send):
    """A worker that is lost before it sends the callback of the task that `send(link)` sends: how often that ran, and
    its id."""
    proxy, url = behind(amqp_url)
    worker = start_worker(queue, *options, broker=url)
    # A connection for messages is there before.
    acked = proxy.watch(amqp(TO_SERVER, ACK))
    app.signature("probe.tasks.add", args=(1, 1)).apply_async(link=app.signature("out.warm"))
    wait_until(lambda: messages(app, f"{queue}-out"), lambda: f"a callback\n{worker.log()}")
    assert acked.wait(30), worker.log()
    proxy.set_trap(amqp(TO_SERVER, PUBLISH), worker.kill)
    task = send(app.signature("out.next"))
    assert proxy.sprung.wait(30), worker.log()
    worker.wait()
    return runs(worker, task.id), task.id


@pytest.mark.parametrize("case", ["its body is over a lower limit", "its sender wants no result"])
def test_what_was_committed_is_sent_where(case, amqp_url, queue, start_worker):
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        kept = f"{queue}-kept"
        options = ["--concurrency", "1", "--route", f"out.*={queue}-out", "--quarantine-queue", kept]
        task = app.signature("probe.tasks.echo", args=("x" * 5000,), ignore_result="no result" in case)
        send = lambda link: task.apply_async(link=link)  # noqa: E731
        ran, task_id = lost_after_its_commit(app, amqp_url, queue, start_worker, options, send)
        env = {"PETIOLE_ARGUMENTS_LIMIT": "1KiB"} if "limit" in case else {}
        second = start_worker(queue, *options, env=env)
        wait_until(lambda: f"[{task_id}] is not run again" in second.log(), second.log)
        assert ran + runs(second, task_id) == 1
        assert len(messages(app, f"{queue}-out")) == 1 and messages(app, kept) == []


def test_a_task_that_has_replaced_itself_is_another_run(amqp_url, redis_url, queue, start_worker):
    """The run has the same id, as Celery's `Task.replace` sends it."""
    with producer(amqp_url, redis_url, queue) as app:
        declare(app, queue)
        worker, task_id = start_worker(queue, "--concurrency", "1"), str(uuid.uuid4())
        for nesting in (0, 1, 1):
            app.send_task("probe.tasks.add", (nesting, 1), task_id=task_id, replaced_task_nesting=nesting)
        wait_until(lambda: f"[{task_id}] is not run again" in worker.log(), worker.log)
        assert runs(worker, task_id) == 2


@pytest.mark.parametrize("backend", ["redis", "sqlite"])
def test_a_success_whose_ack_is_lost_is_told_once(backend, amqp_url, results, queue, start_worker):
    """The connection is cut in the middle of the ack: the message comes again, to the same worker."""
    proxy, broker_url = behind(amqp_url)
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, "--concurrency", "1", broker=broker_url, results=results[backend])
        first = app.signature("probe.tasks.add", args=(1, 1)).apply_async()
        wait_until(lambda: f"[{first.id}] succeeded" in worker.log(), worker.log)
        assert successes(worker) == 1

        cut = threading.Event()

        def at_the_ack(direction, data):
            if direction == TO_SERVER and ACK in data and not cut.is_set():
                cut.set()
                proxy.cut()
            return False

        proxy.set_trap(at_the_ack, None)
        task = app.signature("probe.tasks.add", args=(1, 2)).apply_async()
        assert cut.wait(30), worker.log()
        last = app.signature("probe.tasks.add", args=(2, 2)).apply_async()
        wait_until(lambda: f"[{last.id}] succeeded" in worker.log(), lambda: f"the last task ended\n{worker.log()}")
        assert "connection is lost" in worker.log()
        wait_until(lambda: f"[{task.id}] succeeded" in worker.log(), worker.log)
        assert worker.log().count(f"[{task.id}] succeeded") == 1
        assert runs(worker, task.id) == 1
        assert successes(worker) == 3
        assert worker.stop() == 0


def successes(worker):
    """The number of successes in the metrics."""
    request = urllib.request.Request(f"{worker.http}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("celery_task_succeeded_total{"))


@pytest.mark.parametrize("backend", ["redis", "sqlite"])
def test_a_message_that_comes_twice_runs_once(backend, amqp_url, results, queue, start_worker):
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, results=results[backend])
        task_id = str(uuid.uuid4())
        for number in range(3):
            app.signature("probe.tasks.add", args=(number, 1)).apply_async(task_id=task_id)
        other = app.signature("probe.tasks.add", args=(1, 1)).apply_async()
        wait_until(lambda: worker.log().count(f"[{task_id}] is not run again") == 2, worker.log)
        wait_until(lambda: f"[{other.id}] succeeded" in worker.log(), worker.log)
        assert runs(worker, task_id) == 1


def test_a_message_that_can_not_be_read_ends_no_other_of_its_id(amqp_url, redis_url, queue, start_worker):
    """Both come again when their worker is killed, and the good one waits for the turn of the other."""
    with producer(amqp_url, redis_url, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, "-c", "1", "--prefetch-multiplier", "64")
        holder = app.signature("probe.tasks.sleep_ms", args=(10_000,)).apply_async()
        wait_until(lambda: f"[{holder.id}] received" in worker.log(), worker.log)
        ids = [str(uuid.uuid4()) for _ in range(8)]
        for one in ids:
            for body in (b"{", b"[[1, 2], {}, {}]"):
                publish(app, queue, body, headers={"task": "probe.tasks.add", "id": one})
        with app.connection_for_read() as connection:
            ready = lambda: connection.default_channel.queue_declare(queue, passive=True).message_count  # noqa: E731
            wait_until(lambda: ready() == 0, "all are prefetched")
        worker.kill()
        second = start_worker(queue, "-c", "20")
        wait_until(lambda: all(app.AsyncResult(one).state == "SUCCESS" for one in ids), second.log)


def test_workers_that_run_the_same_task_bring_it_to_one_end(amqp_url, redis_url, redis_client, queue, start_worker):
    """Two messages of one id that run side by side: the second end is not committed, and its callback not sent."""
    with producer(amqp_url, redis_url, queue) as app:
        declare(app, queue)
        options = ["--concurrency", "1", "--route", f"out.*={queue}-out"]
        workers = [start_worker(queue, *options, "--prefetch-multiplier", "1") for _ in range(2)]
        task_id, link = str(uuid.uuid4()), app.signature("out.next", task_id=str(uuid.uuid4()))
        for _ in range(2):
            app.signature("probe.tasks.sleep_ms", args=(1500,)).apply_async(task_id=task_id, link=link)
        logs = lambda: workers[0].log() + workers[1].log()  # noqa: E731
        wait_until(lambda: logs().count(f"[{task_id}] received") == 2, logs)
        wait_until(lambda: f"[{task_id}] succeeded" in logs() and f"[{task_id}] is not run again" in logs(), logs)
        wait_until(lambda: json.loads(redis_client.get(f"celery-task-meta-{task_id}"))["status"] == "SUCCESS", logs)
        # The second may find the first one's messages not confirmed yet, and send them again with the same ids.
        assert set(messages(app, f"{queue}-out")) == {link.id}


def test_a_message_out_of_quarantine_runs_again(amqp_url, redis_url, queue, start_worker):
    """It has had an end, FAILURE; the operator wants another one."""
    with producer(amqp_url, redis_url, queue) as app:
        declare(app, queue)
        kept = f"{queue}-kept"
        worker = start_worker(queue, "--quarantine-queue", kept)
        result = app.signature("probe.tasks.add", args=("no number", 1)).apply_async()
        refused = lambda: worker.log().count(f"[{result.id}] refused")  # noqa: E731

        def quarantine(*arguments):
            return petiole("quarantine", *arguments, "--broker", amqp_url, "--quarantine-queue", kept).stdout

        def the_kept():
            [one] = wait_until(lambda: json.loads(quarantine("list", "--json")), worker.log)
            assert one["task_id"] == result.id
            return one["id"]

        wait_until(lambda: refused() == 1, worker.log)
        quarantine("retry", "--all")
        wait_until(lambda: refused() == 2, worker.log)
        quarantine("retry", the_kept())
        wait_until(lambda: refused() == 3, worker.log)
        quarantine("drop", the_kept())
        assert json.loads(quarantine("list", "--json")) == []
        assert refused() == 3


def test_a_rejected_message_that_is_sent_again_runs_again(amqp_url, redis_url, queue, start_worker):
    """The message is as it was, moved out of a dead-letter queue without its `x-death`."""
    with producer(amqp_url, redis_url, queue) as app:
        declare(app, queue)
        worker, task_id = start_worker(queue), str(uuid.uuid4())
        for number in (1, 2, 3):
            app.signature("probe.tasks.reject", args=(False,)).apply_async(task_id=task_id)
            wait_until(lambda: worker.log().count(f"[{task_id}] rejected") == number, worker.log)  # noqa: B023
        assert runs(worker, task_id) == 3


def test_a_rejected_message_that_is_moved_back_runs_again(tmp_path, amqp_url, redis_url, queue, start_worker):
    """Somebody has had it in between, so that it comes redelivered, as one does whose first reject was lost: its `x-death`
    tells the two apart. Out of quarantine it is another run again."""
    dead, errors = f"{queue}-dead", f"{queue}-out"
    with producer(amqp_url, redis_url, queue) as app:
        app.amqp.queues[queue].queue_arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        declare(app, queue)
        declare(app, dead)
        options = ["--route", f"out.*={errors}", "--quarantine-queue", f"{queue}-kept"]
        task_id, workers = str(uuid.uuid4()), [start_worker(queue, *options)]
        link = app.signature("out.oops")
        app.signature("probe.tasks.reject", args=(False,)).apply_async(task_id=task_id, link_error=link)
        log = lambda: workers[-1].log()  # noqa: E731

        def rejected():
            wait_until(lambda: f"[{task_id}] rejected" in log(), log)
            assert runs(workers[-1], task_id) == 1
            assert workers[-1].stop() == 0

        rejected()
        move_back(app, dead, queue)
        workers.append(start_worker(queue, *options, store=f"file://{tmp_path}/empty"))
        wait_until(lambda: f"[{task_id}] refused" in log(), log)
        assert workers[-1].stop() == 0
        petiole("quarantine", "retry", "--all", "--broker", amqp_url, "--quarantine-queue", f"{queue}-kept")
        workers.append(start_worker(queue, *options))
        rejected()
        with app.connection_for_read() as connection:
            channel, numbers = connection.default_channel, []
            while (message := channel.basic_get(errors, no_ack=True)) is not None:
                numbers.append(message.headers.get("x-petiole-sent-again", 0))
        assert numbers == [0, 1, 2]


def move_back(app, dead, queue):
    """Moves a message as a shovel or RabbitMQ's UI does. Another consumer has it for a while, and gives it back."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        message = wait_until(lambda: channel.basic_get(dead, no_ack=True), "a dead letter")
        channel.basic_publish(message, exchange="", routing_key=queue)
        wait_until(lambda: channel.basic_get(queue), "the message")
