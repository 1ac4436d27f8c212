"""Results as Python reads them: states, parents, children, tracebacks."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from conftest import producer
from waiting import wait_until


def test_the_fields_of_a_success(redis_site):
    site, before = redis_site, datetime.now(timezone.utc)
    s = site.task("probe.tasks.add", 1, 2)
    s.link(site.task("probe.tasks.add", 10))
    result = s.apply_async()
    assert result.get(timeout=30) == 3
    assert (result.state, result.successful(), result.traceback) == ("SUCCESS", True, None)
    done = result.date_done
    assert (
        before - timedelta(seconds=1) <= done.replace(tzinfo=done.tzinfo or timezone.utc) <= datetime.now(timezone.utc)
    )
    [child] = result.children
    assert child.get(timeout=30) == 13
    assert site.ended(child.id)["parent_id"] == result.id
    assert list(result.collect())[-1][1] == 13


def test_the_fields_of_a_failure(redis_site):
    site = redis_site
    result = site.task("probe.tasks.trap").apply_async()
    with pytest.raises(Exception):
        result.get(timeout=30)
    assert (result.state, result.failed()) == ("FAILURE", True)
    assert result.traceback, "the guest's stack"
    assert site.ended(result.id)["children"] == []


def test_the_result_has_celerys_key_form_and_expiry(redis_site):
    site = redis_site
    result = site.task("probe.tasks.add", 1, 2).apply_async()
    result.get(timeout=30)
    key = f"celery-task-meta-{result.id}"
    meta = json.loads(site.redis.get(key))
    assert {"status", "result", "traceback", "children", "date_done", "task_id"} <= set(meta)
    assert 86_000 < site.redis.ttl(key) <= 86_400


def test_extended_results(start_worker, queue, amqp_url, redis_url, redis_client):
    start_worker(queue, "--result-extended")
    with producer(amqp_url, redis_url, queue, result_extended=True) as app:
        result = app.signature("probe.tasks.add", args=(1,), kwargs={"y": 2}).apply_async()
        assert result.get(timeout=30) == 3
        assert (result.name, result.args, result.kwargs, result.retries) == ("probe.tasks.add", [1], {"y": 2}, 0)
        assert result.queue == queue
        assert "@tests" in result.worker


def test_a_chain_knows_its_parents(redis_site):
    site = redis_site
    result = (site.task("probe.tasks.add", 1, 2) | site.task("probe.tasks.add", 10)).apply_async()
    assert result.get(timeout=30) == 13
    assert result.parent.get(timeout=30) == 3
    assert site.ended(result.id)["parent_id"] == result.parent.id
    assert [child.id for child in result.parent.children] == [result.id]


def test_an_ignored_result_is_not_stored_and_its_callbacks_run(redis_site):
    site = redis_site
    s = site.task("probe.tasks.add", 1, 2)
    s.link(site.task("py.on_success"))
    result = s.apply_async(ignore_result=True)
    [call] = site.calls(result)
    assert call["args"] == [3]
    assert site.redis.get(f"celery-task-meta-{result.id}") is None


def test_an_ignored_failure_has_its_error_callbacks(redis_site):
    site = redis_site
    s = site.task("probe.tasks.fail", "quietly")
    s.link_error(site.task("py.on_error"))
    result = s.apply_async(ignore_result=True)
    assert site.calls(result)[0]["args"] == [result.id]


def test_progress_is_seen_from_outside(redis_site):
    site = redis_site
    channel = site.redis.pubsub()
    channel.psubscribe("celery-task-meta-*")
    result = site.task("probe.tasks.progress", 100_000).apply_async()
    result.get(timeout=30)
    states = []

    def seen():
        message = channel.get_message(ignore_subscribe_messages=True, timeout=0.1)
        if message and message["channel"].endswith(result.id):
            states.append(json.loads(message["data"])["status"])
        return "SUCCESS" in states

    wait_until(seen, lambda: f"a final state after {states}")
    assert "PROGRESS" in states
    channel.close()


def test_values_come_back_as_they_were(site):
    values = [1, 2**63, -1.5, True, None, [], {"a": [{"b": None}]}, "text"]
    for value in (*values, "", "\u0000\U0001f331", "a" * 100_000):
        assert site.task("probe.tasks.echo", value).apply_async().get(timeout=30) == value


def test_free_form_arguments(site):
    args, kwargs = [1, "two", None, [3.5, {"four": 5}]], {"six": {"seven": [True]}}
    result = site.app.signature("probe.tasks.free_form", args=args, kwargs=kwargs).apply_async()
    assert result.get(timeout=30) == {"args": args, "kwargs": kwargs}


def test_disabled_results(start_worker, queue, amqp_url, redis_site):
    site = redis_site
    start_worker(queue, "--route", f"py.*={site.queue}-python", results="disabled://")
    with producer(amqp_url, None, queue) as app:
        s = app.signature("probe.tasks.add", args=(1, 2))
        s.link(app.signature("py.on_success"))
        result = s.apply_async()
    assert site.calls(result)[0]["args"] == [3]


def test_every_wit_type_goes_there_and_back(site):
    arguments = [{"rectangle": {"width": 1.5, "height": None}}, "dark_green", ["a", "b"]]
    assert site.task("probe.tasks.typed", *arguments).apply_async().get(timeout=30) == arguments


def test_the_task_sees_its_request(site):
    s = site.task("probe.tasks.show_context")
    result = s.apply_async(headers={"tenant": "acme"})
    seen = result.get(timeout=30)
    assert (seen["id"], seen["task"], seen["retries"]) == (result.id, "probe.tasks.show_context", 0)
    assert (seen["root_id"], seen["parent_id"]) == (result.id, None)
    assert seen["headers"]["tenant"] == "acme"
