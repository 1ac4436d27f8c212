"""Warm and cold shutdown, readiness, and several workers at one queue."""

import json
import signal
import uuid
import zlib

import pytest

from conftest import declare, producer, publish
from load import Announcements, drain, judge
from oracle import Expected
from servers import Rabbitmq
from waiting import wait_until


@pytest.fixture
def app(amqp_url, redis_url, queue):
    with producer(amqp_url, redis_url, queue) as app:
        yield app


def sleeping(app, milliseconds):
    return app.signature("probe.tasks.sleep_ms", args=(milliseconds,)).apply_async()


def is_running(worker, result):
    return lambda: result.id in worker.log()


def test_a_warm_shutdown_finishes_what_runs(app, queue, start_worker):
    worker = start_worker(queue, "--concurrency", "1", "--prefetch-multiplier", "4")
    running, waiting = sleeping(app, 1500), sleeping(app, 0)
    wait_until(is_running(worker, running), "the task runs")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.log()
    assert running.state == "SUCCESS"
    assert waiting.state == "PENDING"
    start_worker(queue)
    waiting.get(timeout=30)


def test_a_cold_shutdown_gives_back_what_runs(app, queue, start_worker):
    worker = start_worker(queue)
    running = sleeping(app, 30_000)
    wait_until(is_running(worker, running), "the task runs")
    worker.send_signal(signal.SIGQUIT)
    worker.wait(20)
    assert running.state == "PENDING"
    second = start_worker(queue, "--time-limit", "2")
    wait_until(is_running(second, running), "the task is delivered again")
    with pytest.raises(Exception):
        running.get(timeout=30)
    assert running.state == "FAILURE"


def test_the_second_interrupt_is_cold(app, queue, start_worker):
    worker = start_worker(queue)
    running = sleeping(app, 30_000)
    wait_until(is_running(worker, running), "the task runs")
    worker.send_signal(signal.SIGINT)
    wait_until(lambda: not worker.is_running() or not ready(worker), "the worker drains")
    assert worker.is_running()
    worker.send_signal(signal.SIGINT)
    worker.wait(20)
    assert running.state == "PENDING"


def ready(worker):
    try:
        return worker.is_ready()
    except AssertionError:
        return False


def test_two_workers_share_a_queue(app, queue, start_worker):
    workers = [start_worker(queue, "--concurrency", "1", "--prefetch-multiplier", "1") for _ in range(2)]
    results = [sleeping(app, 20) for _ in range(40)]
    for one in results:
        one.get(timeout=60)
    for worker in workers:
        wait_until(lambda: "succeeded" in worker.log(), "each has its share")  # noqa: B023


def test_a_producer_without_a_worker_waits_for_one(app, queue, start_worker):
    first = start_worker(queue)
    assert first.stop() == 0
    result = sleeping(app, 0)
    start_worker(queue)
    result.get(timeout=30)


@pytest.fixture
def rabbitmq(tmp_path):
    node = Rabbitmq(tmp_path / "rabbitmq").start()
    yield node
    node.stop()


def test_a_shutdown_ends_while_the_broker_takes_no_messages(rabbitmq, own_redis, queue, start_worker):
    """Tasks have ended, and wait for the confirms of their callbacks."""
    alarm, expected = "{resource_limit, memory, node()}", []
    with producer(rabbitmq.url, own_redis.url, queue) as app, Announcements(own_redis.client) as announcements:
        declare(app, queue)
        for number in range(8):
            task_id, callback_id = str(uuid.uuid4()), str(uuid.uuid4())
            link = app.signature("probe.tasks.echo").set(task_id=callback_id)
            app.signature("probe.tasks.add", args=(number, 1)).apply_async(task_id=task_id, link=link)
            expected += [Expected(task_id, "SUCCESS", number + 1), Expected(callback_id, "SUCCESS", number + 1)]
        rabbitmq.ctl("eval", f"rabbit_alarm:set_alarm({{{alarm}, []}}).")
        options = {"broker": rabbitmq.url, "results": own_redis.url}
        worker = start_worker(queue, "--soft-shutdown-timeout", "2", wait=False, **options)
        tasks = [app.AsyncResult(one.task_id) for one in expected[::2]]
        wait_until(lambda: all(one.state == "SUCCESS" for one in tasks), worker.log)
        assert not worker.is_ready()
        assert worker.stop(deadline=30) == 0, worker.log()[-3000:]
        assert "succeeded" not in worker.log(), "no callback is confirmed"
        rabbitmq.ctl("eval", f"rabbit_alarm:clear_alarm({alarm}).")
        second = start_worker(queue, **options)
        stored = drain(own_redis.client, expected, second)
        assert second.stop() == 0
    judge("shutdown during an alarm", 1, expected, stored, announcements.states, {}, worker, second)


# Each step of a chain has all of its errbacks: JSON of 100 MB, if anybody writes it.
STEPS, ERRBACKS = 300, 10_000


def test_a_shutdown_ends_while_a_message_is_planned_for(amqp_url, own_redis, queue, start_worker):
    """One of some kilobytes that asks for more than anybody can send."""
    signature = {"args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}
    errbacks = [{**signature, "task": f"nobody.has.{number}"} for number in range(ERRBACKS)]
    steps = [{**signature, "task": "probe.tasks.nothing"}] * STEPS
    chain = {**signature, "task": "celery.chain", "kwargs": {"tasks": steps}, "options": {"link_error": errbacks}}
    body = json.dumps([[1, 2], {}, {"callbacks": [{**chain, "subtask_type": "chain"}]}])
    compressed, expected = zlib.compress(body.encode(), 9), []
    with producer(amqp_url, None, queue) as app, Announcements(own_redis.client) as announcements:
        declare(app, queue)
        for _ in range(4):
            heavy = str(uuid.uuid4())
            headers = {"id": heavy, "task": "probe.tasks.add", "compression": "application/x-gzip"}
            publish(app, queue, compressed, headers=headers, correlation_id=heavy)
            small = app.signature("probe.tasks.add", args=(1, 2)).apply_async()
            expected += [Expected(heavy, "FAILURE"), Expected(small.id, "SUCCESS", 3)]
        options = ("--soft-shutdown-timeout", "2", "--quarantine-queue", f"{queue}-kept")
        worker = start_worker(queue, *options, results=own_redis.url)
        wait_until(lambda: "received" in worker.log() or "refused" in worker.log(), worker.log)
        assert worker.stop(deadline=30) == 0, worker.log()[-3000:]
        second = start_worker(queue, *options, results=own_redis.url)
        stored = drain(own_redis.client, expected, second)
        assert second.stop() == 0
    judge("shutdown while planning", 1, expected, stored, announcements.states, {}, worker, second)
