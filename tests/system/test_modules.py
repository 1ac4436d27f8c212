"""Uploading, replacing and rolling back a module while workers run."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import length, petiole, producer
from servers import TOKEN
from waiting import wait_until


@pytest.fixture
def app(amqp_url, redis_url, queue):
    with producer(amqp_url, redis_url, queue) as app:
        yield app


def outcome(app, name, *args):
    """The outcome of a call: its result, or the name of the exception."""
    result = app.signature(name, args=args).apply_async()
    value = result.get(timeout=30, propagate=False)
    return type(value).__name__ if isinstance(value, BaseException) else value


def test_a_module_is_uploaded_while_the_worker_runs(app, queue, start_worker, component, tmp_path):
    worker = start_worker(queue, store=f"file://{tmp_path}/empty")
    assert outcome(app, "probe.tasks.add", 1, 2) == "NotRegistered"
    petiole("push", component("probe"), "--name", "probe.tasks", "--to", worker.http)
    assert outcome(app, "probe.tasks.add", 1, 2) == 3
    listed = petiole("tasks", "--to", worker.http).stdout
    assert "probe.tasks.add(x: s64, y: s64) -> s64" in listed


def test_an_upload_needs_the_token(app, queue, start_worker, component, tmp_path):
    worker = start_worker(queue, store=f"file://{tmp_path}/empty")
    arguments = ["push", component("probe"), "--name", "probe.tasks", "--to", worker.http]
    refused = petiole(*arguments, env={"PETIOLE_TOKEN": "not it"}, check=False)
    assert refused.returncode != 0
    assert "token" in refused.stderr
    assert outcome(app, "probe.tasks.add", 1, 2) == "NotRegistered"


def test_what_can_not_be_run_is_not_taken(queue, start_worker, component, tmp_path):
    worker = start_worker(queue, store=f"file://{tmp_path}/empty")
    core = tmp_path / "core.wasm"
    core.write_bytes(b"\0asm\x01\0\0\0")
    text = tmp_path / "text.wasm"
    text.write_text("hello")
    empty = tmp_path / "empty.wasm"
    empty.write_bytes(b"\0asm\x0d\0\x01\0")
    for file, named in ((core, "core WebAssembly module"), (text, "component"), (empty, "export")):
        refused = petiole("push", file, "--name", "bad.tasks", "--to", worker.http, check=False)
        assert refused.returncode != 0, file
        assert named in refused.stderr, refused.stderr
    assert "bad.tasks" not in petiole("modules", "list", "--to", worker.http).stdout


def test_a_new_version_takes_over_while_the_old_one_finishes(app, queue, start_worker, component, own_store):
    worker = start_worker(queue, store=own_store)
    petiole("push", component("probe"), "--name", "app.tasks", "--to", worker.http)
    long = app.signature("app.tasks.sleep_ms", args=(4000,)).apply_async()
    wait_until(lambda: long.id in worker.log(), "the long task is received")
    petiole("push", component("my_app"), "--name", "app.tasks", "--to", worker.http)
    assert outcome(app, "app.tasks.add", 1, 2) == "NotRegistered"
    assert not long.ready(), "it still runs, on the version that it began with"
    long.get(timeout=30)
    petiole("modules", "rollback", "app.tasks", "--to", worker.http)
    assert outcome(app, "app.tasks.add", 1, 2) == 3


def test_workers_that_share_a_store_follow_each_other(
    app, amqp_url, redis_url, queue, start_worker, component, own_store
):
    first = start_worker(queue, store=own_store)
    other = f"{queue}-other"
    start_worker(other, store=own_store)
    petiole("push", component("probe"), "--name", "shared.tasks", "--to", first.http)
    with producer(amqp_url, redis_url, other) as others:
        wait_until(lambda: outcome(others, "shared.tasks.add", 1, 2) == 3, "the other worker has the module", poll=0.2)
    petiole("modules", "remove", "shared.tasks", "--store", own_store)
    wait_until(lambda: outcome(app, "shared.tasks.add", 1, 2) == "NotRegistered", "the module is gone", poll=0.2)


def test_the_manifest_sets_limits_and_names(app, queue, start_worker, component, own_store, tmp_path):
    worker = start_worker(queue, store=own_store)
    manifest = tmp_path / "manifest.toml"
    manifest.write_text('[tasks.add]\nname = "sums.plus"\n\n[tasks.spin]\ntime_limit = 1\n')
    petiole("push", component("probe"), "--name", "named.tasks", "--manifest", manifest, "--to", worker.http)
    assert outcome(app, "sums.plus", 1, 2) == 3
    assert outcome(app, "named.tasks.add", 1, 2) == "NotRegistered"
    start = time.monotonic()
    assert outcome(app, "named.tasks.spin") == "TimeLimitExceeded"
    assert time.monotonic() - start >= 1


def test_a_name_that_two_modules_claim_is_the_one_s_whose_it_is(
    app, amqp_url, redis_url, queue, start_worker, component, own_store, tmp_path
):
    """A rollback brings back a claim that nobody could make by an upload."""
    worker = start_worker(queue, store=own_store)
    manifest = tmp_path / "manifest.toml"
    manifest.write_text('[tasks.sleep_ms]\nname = "owner.add"\n')
    for arguments in (["thief", "--manifest", manifest], ["thief"], ["owner"]):
        petiole("push", component("probe"), "--name", *arguments, "--to", worker.http)
    refused = petiole(
        "push", component("probe"), "--name", "thief", "--manifest", manifest, "--to", worker.http, check=False
    )
    assert refused.returncode == 2 and "taken by module owner" in refused.stderr, refused.stderr
    petiole("modules", "rollback", "thief", "--to", worker.http)
    wait_until(lambda: "task owner.add of module thief does not answer" in worker.log(), "the claim is turned down")
    for name, arguments, expected in (("owner.add", (1, 2), 3), ("thief.add", (1, 2), 3)):
        assert outcome(app, name, *arguments) == expected
    # also where both are found at the start
    other = f"{queue}-other"
    start_worker(other, store=own_store)
    with producer(amqp_url, redis_url, other) as others:
        assert outcome(others, "owner.add", 1, 2) == 3


def test_two_functions_have_two_names(own_store, component, tmp_path):
    manifest = tmp_path / "manifest.toml"
    manifest.write_text('[tasks.sleep_ms]\nname = "twice.add"\n')
    command = ["push", component("probe"), "--name", "twice", "--manifest", manifest, "--store", own_store]
    refused = petiole(*command, check=False)
    assert refused.returncode == 2 and "names two functions twice.add" in refused.stderr, refused.stderr


def test_the_versions_of_a_module(queue, start_worker, component, own_store):
    worker = start_worker(queue, store=own_store)
    for name in ("probe", "my_app"):
        petiole("push", component(name), "--name", "counted.tasks", "--to", worker.http)
    shown = json.loads(petiole("modules", "show", "counted.tasks", "--to", worker.http, "--json").stdout)
    assert shown["active"] == 2
    assert [version["number"] for version in shown["versions"]] == [1, 2]
    petiole("modules", "activate", "counted.tasks", "1", "--to", worker.http)
    shown = json.loads(petiole("modules", "show", "counted.tasks", "--to", worker.http, "--json").stdout)
    assert shown["active"] == 1


def folder_of(store):
    return Path(store.removeprefix("file://"))


def answer(worker, path):
    """The status and the text of a GET."""
    try:
        with urllib.request.urlopen(f"{worker.http}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as reply:
        return reply.code, reply.read().decode()


def send(app, name, number):
    return [app.signature(name, args=(n, 1)).apply_async() for n in range(number)]


def check_all(results):
    assert [result.get(timeout=60) for result in results] == [n + 1 for n in range(len(results))]


def failed_modules(worker):
    lines = answer(worker, "/metrics")[1].splitlines()
    return [line for line in lines if line.startswith("petiole_modules_failed{")]


def test_tasks_sent_right_after_a_push_are_found(app, queue, start_worker, component, own_store):
    """Both workers take them, and one of them was not asked to install the module."""
    worker = start_worker(queue, store=own_store)
    start_worker(queue, store=own_store)
    for number in range(1, 4):
        name = f"pushed{number}.tasks"
        petiole("push", component("probe"), "--name", name, "--to", worker.http, "--wait", "0")
        check_all(send(app, f"{name}.add", 100))
    assert outcome(app, "pushed.tasks.add", 1, 2) == "NotRegistered"


def test_a_push_says_when_all_workers_have_it(queue, start_worker, component, own_store):
    worker = start_worker(queue, store=own_store)
    start_worker(queue, store=own_store)
    command = ["push", component("probe"), "--name", "told.tasks"]
    assert "2 of 2 workers have it" in petiole(*command, "--to", worker.http).stdout
    listed = petiole("modules", "list", "--to", worker.http).stdout
    assert listed.split()[-4:] == ["told.tasks", "1", "1", "2/2"], listed
    # A worker that does not live, as it said before it was killed, has nothing; and one that has not got it yet.
    behind = folder_of(own_store) / "workers" / "behind.json"
    behind.write_text('{"worker": "behind@host", "modules": {"told.tasks": {"version": 7, "reason": "\\u001b[2J"}}}')
    for option, code in ((["--wait", "1"], 4), (["--wait", "0"], 0)):
        late = petiole(*command, "--store", own_store, *option, check=False)
        assert late.returncode == code, late.stderr
        assert "2 of 3 workers have it" in late.stdout and "behind@host: \\u{1b}[2J" in late.stdout, late.stdout
        os.utime(behind)
    shown = json.loads(petiole("modules", "show", "told.tasks", "--store", own_store, "--json").stdout)
    assert sorted(one.get("version") for one in shown["workers"]) == [1, 1, 7]


def test_a_store_that_is_away_at_the_start_is_waited_for(app, queue, start_worker, component, own_store):
    mount = folder_of(own_store) / "mount"
    store = f"{own_store}/mount/modules"
    petiole("push", component("probe"), "--name", "late.tasks", "--store", store)
    away = mount.rename(mount.with_name("away"))
    mount.write_text("no folder")
    worker = start_worker(queue, store=store, wait=False)
    what = lambda: f"the worker says why it is not ready: {worker.log()}"  # noqa: E731
    wait_until(lambda: "catalog can't be read" in (not_ready(worker) or ""), what)
    assert "petiole_worker_ready" in answer(worker, "/metrics")[1]
    results = send(app, "late.tasks.add", 50)
    with app.connection_for_read() as connection:
        connection.default_channel.queue_declare(queue, passive=True)
    # Longer than the pause between looks at the store: they stay where they are.
    wait_until(lambda: worker.log().count("catalog of modules can't be read") == 1, "it is said once")
    assert length(app, queue) == 50
    mount.unlink()
    away.rename(mount)
    worker.wait_ready()
    check_all(results)
    assert worker.log().count("catalog of modules can't be read") == 1


def not_ready(worker):
    """The reason that a worker is not ready; None if it is, or does not answer yet."""
    with suppress(urllib.error.URLError, OSError):
        status, text = answer(worker, "/readyz")
        return text if status == 503 else None


def test_a_module_that_is_not_loaded_keeps_its_messages_and_no_others_waiting(
    app, queue, start_worker, component, tmp_path
):
    own_store = f"file://{tmp_path}/store"
    for name in ("here.tasks", "gone.tasks"):
        component_file = component("probe" if name == "here.tasks" else "my_app")
        petiole("push", component_file, "--name", name, "--store", own_store)
    shown = json.loads(petiole("modules", "show", "gone.tasks", "--store", own_store, "--json").stdout)
    [version] = shown["versions"]
    assert "gone.tasks.run_task" in version["tasks"], version
    file = folder_of(own_store) / "components" / f"{version['digest']}.wasm"
    away = file.rename(file.with_suffix(".away"))
    worker = start_worker(queue, store=own_store, wait=False)
    wait_until(lambda: not_ready(worker), "it is up")
    # More than are prefetched, before the others.
    waiting = [app.signature("gone.tasks.run_task", args=(100,)).apply_async() for _ in range(200)]
    check_all(send(app, "here.tasks.add", 20))
    assert not_ready(worker) == (
        "not ready: module gone.tasks version 1 is not loaded: the store does not give the component\n"
    )
    assert len(failed_modules(worker)) == 1 and 'module="gone.tasks"' in failed_modules(worker)[0]
    wait_until(
        lambda: "has not loaded gone.tasks: component" in petiole("modules", "list", "--to", worker.http).stdout,
        "its reason is shown",
    )
    assert "is not in the store" in petiole("modules", "show", "gone.tasks", "--store", own_store).stdout
    assert answer_of_task(worker, "gone.tasks.run_task") == 503
    assert outcome(app, "gone.tasks.no_such_task") == "NotRegistered"
    assert not any(result.ready() for result in waiting)
    away.rename(file)
    worker.wait_ready()
    for result in waiting:
        assert result.get(timeout=60) is not None
    assert failed_modules(worker) == []
    # Once when it failed, with no more for each message and each time.
    assert worker.log().count("module gone.tasks version 1 is not loaded") == 1


def answer_of_task(worker, name):
    """The status of a task's document."""
    request = urllib.request.Request(f"{worker.http}/v1/tasks/{name}", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status
    except urllib.error.HTTPError as reply:
        return reply.code


def test_a_compiler_that_is_killed_loses_no_task(app, queue, start_worker, component, own_store, tmp_path):
    petiole("push", component("probe"), "--name", "killed.tasks", "--store", own_store)
    results = send(app, "killed.tasks.add", 20)
    worker = start_worker(queue, store=own_store, wait=False, env={"PETIOLE_CACHE": tmp_path / "cold"})
    wait_until(lambda: kill_child(worker.process.pid), "the compiler is killed", poll=0.001)
    worker.wait_ready()
    check_all(results)
    assert "the compiler ended by itself" in worker.log(), worker.log()


def kill_child(pid):
    """Kills a child process, where there is one."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in (thread / "children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
                return True
    return False
