"""Warm and cold shutdown, readiness, and several workers at one queue."""

import signal

import pytest

from conftest import producer
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
        assert "succeeded" in worker.log(), "each has its share"


def test_a_producer_without_a_worker_waits_for_one(app, queue, start_worker):
    first = start_worker(queue)
    assert first.stop() == 0
    result = sleeping(app, 0)
    start_worker(queue)
    result.get(timeout=30)
