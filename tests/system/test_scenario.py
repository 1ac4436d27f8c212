"""The scenario that Petiole exists for: a Celery producer calls a task, and its callbacks run."""

import pytest

# Of `my_app.tasks.run_task`.
SUCCEEDS = 1000
FAILS = 20_000_000


def test_the_result_of_a_task_reaches_python(site):
    assert site.task("probe.tasks.add", 2, 3).apply_async().get(timeout=30) == 5


def test_the_producer_needs_no_more_than_a_stub(site):
    @site.app.task(name="probe.tasks.add", shared=False)
    def add(x, y):
        raise AssertionError("runs on the worker")

    assert add.delay(20, 22).get(timeout=30) == 42
    assert add.s(1).apply_async(args=(2,)).get(timeout=30) == 3
    assert add.delay(x=4, y=5).get(timeout=30) == 9


def test_a_success_callback_gets_the_result(site):
    s = site.task("my_app.tasks.run_task", SUCCEEDS)
    s.link(site.task("py.on_success"))
    result = s.apply_async()
    report = result.get(timeout=30)
    assert report == {"up_to": 1000, "count": 168, "largest": 997, "sum": 76127}
    [call] = site.calls(result)
    assert call["task"] == "py.on_success"
    assert call["args"] == [report]
    assert call["parent_id"] == result.id


def test_an_error_callback_gets_the_id(site):
    s = site.task("my_app.tasks.run_task", FAILS)
    s.link(site.task("py.on_success"))
    s.link_error(site.task("py.on_error"))
    result = s.apply_async()
    with pytest.raises(Exception) as raised:
        result.get(timeout=30)
    assert type(raised.value).__name__ == "ValueError"
    [call] = site.calls(result)
    assert (call["task"], call["args"], call["parent_id"]) == ("py.on_error", [result.id], result.id)


def test_a_success_callback_is_a_wasm_task_and_has_a_callback(site):
    callback = site.task("my_app.tasks.on_success_task")
    callback.link(site.task("py.on_success"))
    s = site.task("my_app.tasks.run_task", SUCCEEDS)
    s.link(callback)
    result = s.apply_async()
    result.get(timeout=30)
    [call] = site.calls(result)
    assert call["args"] == ["168 prime numbers up to 1000, the largest is 997"]
    assert call["parent_id"] not in (None, result.id)


def test_an_error_callback_is_a_wasm_task_and_has_a_callback(site):
    callback = site.task("my_app.tasks.on_error_task")
    callback.link(site.task("py.on_success"))
    s = site.task("my_app.tasks.run_task", FAILS)
    s.link_error(callback)
    result = s.apply_async()
    [call] = site.calls(result)
    assert call["args"] == [f"task {result.id} has failed"]
    assert call["parent_id"] not in (None, result.id)


def test_a_failing_callback_has_an_error_callback(site):
    callback = site.task("probe.tasks.fail", "callback")
    callback.set(immutable=True)
    callback.link_error(site.task("py.on_error"))
    s = site.task("probe.tasks.add", 1, 2)
    s.link(callback)
    result = s.apply_async()
    assert result.get(timeout=30) == 3
    [call] = site.calls(result)
    assert call["task"] == "py.on_error"
    assert call["args"] == [call["parent_id"]]
    assert call["parent_id"] != result.id


def test_several_callbacks_all_run(site):
    s = site.task("probe.tasks.add", 1, 2)
    s.link(site.task("py.on_success"))
    s.link(site.task("py.add", 10))
    s.link(site.task("probe.tasks.add", 100).set(link=[site.task("py.on_success")]))
    result = s.apply_async()
    assert result.get(timeout=30) == 3
    calls = sorted((call["task"], call["args"]) for call in site.calls(result, 3))
    assert calls == [("py.add", [3, 10]), ("py.on_success", [3]), ("py.on_success", [103])]


def test_a_chain_goes_from_wasm_to_python_and_back(site):
    chain = site.task("probe.tasks.add", 1, 2) | site.task("py.add", 10) | site.task("probe.tasks.add", 100)
    result = chain.apply_async()
    assert result.get(timeout=30) == 113


def test_a_chain_ends_at_the_step_that_fails(site):
    failing = site.task("probe.tasks.fail", "second").set(immutable=True)
    chain = site.task("probe.tasks.add", 1, 2) | failing | site.task("py.on_success")
    chain.link_error(site.task("py.on_error"))
    result = chain.apply_async()
    first = result.parent.parent
    assert first.get(timeout=30) == 3
    [call] = site.calls(first)
    assert (call["task"], call["args"]) == ("py.on_error", [result.parent.id])


def test_a_chain_ends_at_the_python_step_that_fails(site):
    chain = site.task("probe.tasks.add", 1, 2) | site.task("py.fail") | site.task("probe.tasks.add", 100)
    # An error callback that Celery's worker does not know itself is sent, here to the Wasm worker.
    callback = site.task("my_app.tasks.on_error_task")
    callback.link(site.task("py.on_success"))
    chain.link_error(callback)
    result = chain.apply_async()
    first = result.parent.parent
    assert first.get(timeout=30) == 3
    calls = site.calls(first, 2)
    assert [call["task"] for call in calls] == ["py.fail", "py.on_success"]
    assert calls[1]["args"] == [f"task {result.parent.id} has failed"]


def test_a_callback_is_a_chain(site):
    s = site.task("probe.tasks.add", 1, 2)
    s.link(site.task("probe.tasks.add", 10) | site.task("py.on_success"))
    result = s.apply_async()
    assert result.get(timeout=30) == 3
    [call] = site.calls(result)
    assert call["args"] == [13]


def test_a_signature_that_names_its_queue_goes_there(site):
    s = site.task("probe.tasks.add", 1, 2)
    s.link(site.task("py.on_success").set(queue=f"{site.queue}-python"))
    result = s.apply_async()
    assert site.calls(result)[0]["args"] == [3]


def test_a_task_sends_another_one(site):
    """The guest's own `canvas.send`: with the task's other messages, once it has succeeded."""
    result = site.task("probe.tasks.send_child", "py.on_success", [7]).apply_async()
    child = result.get(timeout=30)
    [call] = site.calls(result)
    assert (call["args"], call["parent_id"], call["id"]) == ([7], result.id, child)


def test_a_failed_task_has_sent_nothing(site):
    s = site.task("probe.tasks.send_child_and_fail", "py.on_success")
    s.link_error(site.task("py.on_error"))
    result = s.apply_async()
    [call] = site.calls(result)
    assert call["task"] == "py.on_error"
