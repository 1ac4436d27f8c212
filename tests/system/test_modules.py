"""Uploading, replacing and rolling back a module while workers run."""

import json
import time

import pytest

from conftest import petiole, producer
from waiting import wait_until


@pytest.fixture
def app(amqp_url, redis_url, queue):
    with producer(amqp_url, redis_url, queue) as app:
        yield app


def outcome(app, name, *args):
    """What a call comes to: its result, or the name of the exception."""
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
