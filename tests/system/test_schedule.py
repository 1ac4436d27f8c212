"""Retries, countdowns and etas: the task waits in the broker."""

import time
from datetime import datetime, timedelta, timezone

import pytest

from waiting import wait_until


def test_a_task_is_retried_until_it_succeeds(site):
    start = time.monotonic()
    result = site.task("probe.tasks.retry_until", 2, countdown_ms=1000).apply_async()
    assert result.get(timeout=60) == 2
    assert time.monotonic() - start >= 2


def test_a_task_is_retried_no_more_than_it_may(site):
    s = site.task("probe.tasks.retry_in_vain", 2)
    s.link_error(site.task("py.on_error"))
    result = s.apply_async()
    with pytest.raises(Exception):
        result.get(timeout=60)
    assert result.state == "FAILURE"
    assert "retry 2" in str(result.result)
    assert site.calls(result)[0]["args"] == [result.id]


def test_a_countdown(site):
    start = time.monotonic()
    result = site.task("probe.tasks.add", 1, 2).apply_async(countdown=2)
    assert result.get(timeout=60) == 3
    assert time.monotonic() - start >= 2


def test_an_eta(site):
    start = time.monotonic()
    result = site.task("probe.tasks.add", 1, 2).apply_async(eta=datetime.now(timezone.utc) + timedelta(seconds=2))
    assert result.get(timeout=60) == 3
    # the header's eta has been cut to what the broker's delay can do: never early
    assert time.monotonic() - start >= 1.9


def test_an_eta_that_has_passed(site):
    result = site.task("probe.tasks.add", 1, 2).apply_async(eta=datetime.now(timezone.utc) - timedelta(hours=1))
    assert result.get(timeout=30) == 3


def test_a_callback_with_a_countdown(site):
    s = site.task("probe.tasks.add", 1, 2)
    s.link(site.task("py.on_success").set(countdown=1))
    result = s.apply_async()
    assert site.calls(result)[0]["args"] == [3]


def test_waiting_tasks_survive_the_worker(start_worker, queue, redis_site):
    """They are in the broker, not in the worker's memory."""
    site = redis_site
    worker = start_worker(queue)
    s = site.task("probe.tasks.add", 1, 2)
    result = s.apply_async(countdown=3, queue=queue)
    wait_until(lambda: result.id in worker.log(), lambda: f"the task is received\n{worker.log()}")
    worker.kill()
    start_worker(queue)
    assert site.ended(result.id)["result"] == 3


def test_a_task_that_waits_keeps_no_other_one(redis_site, start_worker, queue):
    site = redis_site
    start_worker(queue, "--concurrency", "1", "--prefetch-multiplier", "1")
    waiting = [site.task("probe.tasks.add", 1, n).apply_async(countdown=3600, queue=queue) for n in range(20)]
    assert site.task("probe.tasks.add", 1, 2).apply_async(queue=queue).get(timeout=30) == 3
    assert {one.state for one in waiting} <= {"PENDING", "RECEIVED"}
