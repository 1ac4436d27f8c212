"""Failures of tasks and faults of messages: Python sees them, callbacks run, nothing is lost."""

import json
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from conftest import petiole

REASON = "x-petiole-reason"


def raises(result, name):
    """The exception of that name which `get()` raises."""
    with pytest.raises(Exception) as raised:
        result.get(timeout=60)
    assert type(raised.value).__name__ == name, repr(raised.value)
    return raised.value


def fails(site, name, exception, *args, **options):
    """Calls a task that fails, and holds that Python sees the exception and that the errback runs."""
    s = site.task(name, *args)
    s.link(site.task("py.on_success"))
    s.link_error(site.task("py.on_error"))
    result = s.apply_async(**options)
    error = raises(result, exception)
    [call] = site.calls(result)
    assert (call["task"], call["args"]) == ("py.on_error", [result.id])
    assert result.state == "FAILURE"
    return error


def test_err(site):
    error = fails(site, "probe.tasks.fail", "ValueError", "it broke")
    assert error.args == ("it broke",)


def test_a_class_is_pythons_own_where_its_module_is_named(redis_site, queue, component, own_store, start_worker):
    """The caller catches it as docs/wit.md says."""
    petiole("push", component("hostile/python_gadget"), "--name", "classes.tasks", "--store", own_store)
    start_worker(queue, store=own_store)

    def raised(task, *args):
        return raises(redis_site.task(task, *args).set(queue=queue).apply_async(), "ValueError")

    made_up = raised("probe.tasks.fail", "no lines")
    assert isinstance(made_up, Exception) and not isinstance(made_up, ValueError)
    assert type(made_up) is not type(raised("probe.tasks.fail", "no lines"))
    pythons = raised("classes.tasks.attack", "builtins", "ValueError", "no lines")
    assert type(pythons) is ValueError and pythons.args == ("no lines",)
    ends = redis_site.task("classes.tasks.attack", "builtins", "SystemExit", "1").set(queue=queue).apply_async()
    assert isinstance(raises(ends, "SystemExit"), Exception)


def test_an_err_that_is_a_string(site):
    error = fails(site, "probe.tasks.fail_plainly", "TaskError", "it broke")
    assert error.args == ("it broke",)


def test_an_err_of_the_tasks_own_type(site):
    error = fails(site, "probe.tasks.fail_typed", "Label", {"label": "fragile"})
    assert error.args == ("fragile",)


def test_trap(site):
    error = fails(site, "probe.tasks.trap", "Panic")
    assert error.args == ("probe was told to trap",)


def test_the_place_of_a_panic(site):
    result = site.task("probe.tasks.trap").apply_async()
    raises(result, "Panic")
    assert "hostile.rs:11:5:" in result.traceback


def test_stack_overflow(site):
    fails(site, "probe.tasks.recurse", "StackOverflow", 100_000_000)


def test_a_result_that_is_too_large(site):
    fails(site, "probe.tasks.large_result", "ResultTooLarge", 100_000_000)


def test_time_out(site):
    fails(site, "probe.tasks.spin", "TimeLimitExceeded", time_limit=1)


def test_time_out_of_a_task_that_sleeps(site):
    fails(site, "probe.tasks.sleep_ms", "TimeLimitExceeded", 60_000, time_limit=1)


def test_memory_limit(site):
    fails(site, "probe.tasks.eat_memory", "MemoryLimitExceeded", 4096)


def test_a_worker_goes_on_after_each_of_them(site):
    doomed = [
        site.task("probe.tasks.trap").apply_async(),
        site.task("probe.tasks.spin").apply_async(time_limit=1),
        site.task("probe.tasks.eat_memory", 4096).apply_async(),
    ]
    sums = [site.task("probe.tasks.add", n, 1).apply_async() for n in range(20)]
    assert [one.get(timeout=60) for one in sums] == [n + 1 for n in range(20)]
    for one in doomed:
        with pytest.raises(Exception):
            one.get(timeout=60)


def test_unknown_task(site):
    error = fails(site, "probe.tasks.no_such_task", "NotRegistered")
    assert "probe.tasks.no_such_task" in str(error)


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {}, "x"),
        ((1,), {}, "y"),
        ((1, 2, 3), {}, "3"),
        ((1, "two"), {}, "two"),
        ((1,), {"x": 2}, "x"),
        ((1, 2), {"z": 3}, "z"),
        ((2**63, 1), {}, str(2**63)),
        ((1.5, 1), {}, "1.5"),
    ],
)
def test_wrong_arguments(redis_site, args, kwargs, named):
    site = redis_site
    s = site.app.signature("probe.tasks.add", args=args, kwargs=kwargs)
    s.link_error(site.task("py.on_error"))
    result = s.apply_async()
    error = raises(result, "TypeError")
    assert "probe.tasks.add" in str(error)
    assert named in str(error)
    [call] = site.calls(result)
    assert call["args"] == [result.id]
    kept(site, result.id)


def test_wrong_arguments_reach_python_by_rpc(rpc_site):
    fails(rpc_site, "probe.tasks.add", "TypeError", "one", "two")


def test_an_expired_task_is_revoked(site):
    s = site.task("probe.tasks.add", 1, 2)
    # The broker drops a message whose time has passed, unless it is delivered before: this one never was in time.
    result = s.apply_async(expires=datetime.now(timezone.utc) - timedelta(hours=1))
    error = raises(result, "TaskRevokedError")
    assert error.args == ("expired",)
    assert result.state == "REVOKED"


def kept(site, task_id):
    """The message in the quarantine queue, and the reason that it carries."""
    message = site.quarantine.find(lambda one: one.headers.get("id") == task_id, f"message {task_id}")
    return message, message.headers[REASON]


def test_a_refused_message_is_kept_as_it_was(redis_site):
    site = redis_site
    result = site.task("probe.tasks.no_such_task", 1, name="two").apply_async(headers={"tenant": "acme"})
    raises(result, "NotRegistered")
    message, reason = kept(site, result.id)
    assert "probe.tasks.no_such_task" in reason
    assert message.headers["task"] == "probe.tasks.no_such_task"
    assert message.headers["tenant"] == "acme"
    args, kwargs, _ = json.loads(message.body)
    assert (args, kwargs) == ([1], {"name": "two"})


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{not json", ""),
        (b"", ""),
        (b"null", ""),
        (b"[]", ""),
        (b"[[1, 2]]", ""),
        (b'[{"x": 1}, [], {}]', ""),
        (b"\xff\xfe\x00", ""),
        (b"[" * 100_000, ""),
    ],
    ids=["no JSON", "empty", "null", "no parts", "one part", "parts swapped", "no UTF-8", "deep"],
)
def test_a_malformed_body(redis_site, body, named):
    site, task_id = redis_site, str(uuid.uuid4())
    site.publish(body, headers={"task": "probe.tasks.add", "id": task_id, "lang": "py"}, correlation_id=task_id)
    meta = site.ended(task_id)
    assert meta["status"] == "FAILURE"
    message, reason = kept(site, task_id)
    assert bytes(message.body if isinstance(message.body, bytes) else message.body.encode()) == body
    assert "malformed" in reason


def test_headers_that_are_no_task(redis_site):
    """There is no id under which to store a result: the message itself is what is kept."""
    site, mark = redis_site, uuid.uuid4().hex
    site.publish(b"[[], {}, {}]", headers={"mark": mark})
    message = site.quarantine.find(lambda one: one.headers.get("mark") == mark, "the message")
    assert "malformed" in message.headers[REASON]


@pytest.mark.parametrize(
    ("content_type", "encoding", "body"),
    [
        ("application/x-python-serialize", "binary", b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00]\x94."),
        ("application/x-yaml", "utf-8", b"- []\n- {}\n- {callbacks: null}\n"),
        ("text/plain", "utf-8", b"[[], {}, {}]"),
    ],
    ids=["pickle", "yaml", "text"],
)
def test_a_content_type_that_is_never_decoded(redis_site, content_type, encoding, body):
    site, task_id = redis_site, str(uuid.uuid4())
    headers = {"task": "probe.tasks.add", "id": task_id, "lang": "py"}
    site.publish(body, headers=headers, content_type=content_type, content_encoding=encoding, correlation_id=task_id)
    meta = site.ended(task_id)
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "ContentDisallowed"
    message, reason = kept(site, task_id)
    assert content_type in reason
    assert message.content_type == content_type


def test_celerys_own_pickle_is_refused(redis_site):
    site = redis_site
    site.app.conf.accept_content = ["json", "pickle"]
    result = site.task("probe.tasks.add", 1, 2).apply_async(serializer="pickle")
    raises(result, "ContentDisallowed")
    kept(site, result.id)
