"""kill -9 at any moment, under load: no task and no callback is lost, and a duplicate has the same id."""

import itertools
import json
import os
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from conftest import declare, petiole, producer, queue_type
from load import DRAIN_DEADLINE, Announcements, Load, child_of, drain, judge
from oracle import FINAL, Expected
from servers import Rabbitmq
from tap import Tap
from waiting import wait_until

WORKER_KILLS = int(os.environ.get("PETIOLE_KILLS", "60"))
BROKER_KILLS = 5
# A worker's life, in seconds. It is up, and in full work, after about 0.2 s.
SHORTEST_LIFE, MEAN_LIFE, LONGEST_LIFE = 0.1, 0.7, 5.0


def life(dice):
    """A life's length: mostly short, so that there are many ends, now and then long."""
    return min(SHORTEST_LIFE + dice.expovariate(1 / MEAN_LIFE), LONGEST_LIFE)


@pytest.mark.timeout(1200 + 5 * WORKER_KILLS)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_worker_is_killed(
    folder, amqp_url, redis_url, redis_client, store, queue, kind, start_worker, start_python
):
    dice = random.Random()
    with (
        producer(amqp_url, redis_url, queue, **queue_type(kind)) as app,
        Announcements(redis_client) as announcements,
    ):
        declare(app, queue)
        taps = [Tap(app, queue), Tap(app, f"{queue}-python")]
        start_python(queue, kind)
        worker = start_worker(queue, "--route", f"py.*={queue}-python")
        with Load(app, pause=0.003, has_python=True) as load:
            for _ in range(WORKER_KILLS):
                time.sleep(life(dice))
                worker.check()
                worker.kill()
                worker.start()
        assert load.error is None, load.error
        stored = drain(redis_client, load.expected, worker)
        worker.wait_ready()
    what = f"worker killed, {kind} queue"
    twice = {run: times for tap in taps for run, times in tap.twice().items()}
    judge(what, WORKER_KILLS, load.expected, stored, announcements.states, twice, worker)


@pytest.mark.timeout(1200 + 5 * WORKER_KILLS)
def test_the_broker_is_killed(tmp_path, redis_url, redis_client, store, queue, start_worker):
    rabbitmq = Rabbitmq(tmp_path / "rabbitmq").start()
    try:
        with producer(rabbitmq.url, redis_url, queue) as app, Announcements(redis_client) as announcements:
            tap = Tap(app, queue)
            worker = start_worker(queue, broker=rabbitmq.url)
            # Without retries: the queues of the delays may confirm nothing for minutes after a kill (RabbitMQ 3.10).
            with Load(app, pause=0.001, retries=False) as load:
                for _ in range(BROKER_KILLS):
                    load.goes_on(600)
                    rabbitmq.kill()
                    rabbitmq.start()
            assert load.error is None, load.error
            stored = drain(redis_client, load.expected, worker)
            worker.wait_ready()
        warnings = [line for line in worker.log().splitlines() if "WARNING" in line]
        # Of two connections, their consumer, and the outage that it is; not of each of the messages.
        assert len(warnings) <= 8 * BROKER_KILLS, "\n".join(warnings)
        judge("broker killed", BROKER_KILLS, load.expected, stored, announcements.states, tap.twice(), worker)
    finally:
        rabbitmq.stop()


def sends(broker, queue, expected, stopped):
    """Sends tasks by the command line until it is told to stop, and keeps what must become of each."""
    for number in itertools.count():
        if stopped.is_set():
            return
        task, arguments, follows = (
            ("add", [number, 1], ["--link", "probe.tasks.echo"]),
            ("fail", ["it broke"], ["--link-error", "probe.tasks.echo"]),
            ("retry_until", [2, 10], []),
            ("send_child", ["probe.tasks.echo", [number]], []),
        )[number % 4]
        sent = petiole("send", f"probe.tasks.{task}", "--args", json.dumps(arguments), *follows, "-Q", queue, "-b", broker)
        task_id = sent.stdout.split()[-1]
        ends = (
            [Expected(task_id, "SUCCESS", number + 1), Expected(child_of(task_id, "callback"), "SUCCESS", number + 1)],
            [Expected(task_id, "FAILURE"), Expected(child_of(task_id, "errback"), "SUCCESS", task_id)],
            [Expected(task_id, "SUCCESS", 2)],
            [Expected(task_id, "SUCCESS", child_of(task_id)), Expected(child_of(task_id), "SUCCESS", number)],
        )[number % 4]
        expected.extend(ends)


@pytest.mark.timeout(600 + 5 * WORKER_KILLS)
def test_the_worker_is_killed_beside_its_embedded_broker(tmp_path, queue, start_worker):
    dice, kills, expected, stopped = random.Random(), max(WORKER_KILLS // 5, 10), [], threading.Event()
    broker, database = f"sqlite://{tmp_path}/broker.db", tmp_path / "results.db"
    worker = start_worker(queue, broker=broker, results=f"sqlite://{database}")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(sends, broker, queue, expected, stopped)
        try:
            for _ in range(kills):
                time.sleep(life(dice))
                worker.check()
                worker.kill()
                worker.start()
        finally:
            stopped.set()
        sending.result()

    def stored():
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as results:
            return {task_id: json.loads(meta) for task_id, meta in results.execute("SELECT task_id, meta FROM petiole_result")}

    def ended():
        metas = stored()
        return all(metas.get(one.task_id, {}).get("status") in FINAL for one in expected)

    wait_until(ended, lambda: f"all has ended\n{worker.log()[-3000:]}", DRAIN_DEADLINE, poll=0.2)
    metas = stored()
    # Nobody announces what SQLite stores.
    announced = [(task_id, meta["status"]) for task_id, meta in metas.items()]
    judge("worker killed, embedded broker", kills, expected, metas, announced, {}, worker)
