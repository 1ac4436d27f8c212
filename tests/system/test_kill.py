"""kill -9 at any moment, under load: no task and no callback is lost, and a duplicate has the same id."""

import os
import random
import time

import pytest

from conftest import declare, producer, queue_type
from load import Announcements, Load, drain, judge
from servers import Rabbitmq
from tap import Tap

WORKER_KILLS = int(os.environ.get("PETIOLE_KILLS", "60"))
BROKER_KILLS = 5
# How long a worker lives, in seconds. It is up, and in full work, after about 0.2 s.
SHORTEST_LIFE, MEAN_LIFE, LONGEST_LIFE = 0.1, 0.7, 5.0


def life(dice):
    """Mostly short, so that there are many ends, now and then long."""
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
        tap = Tap(app, queue)
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
    judge(what, WORKER_KILLS, load.expected, stored, announcements.states, tap.twice())


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
        judge("broker killed", BROKER_KILLS, load.expected, stored, announcements.states, tap.twice())
    finally:
        rabbitmq.stop()
