"""Capabilities that a module asks for and an operator allows: by the command line, and in a real worker."""

import json
import os
import re
import shutil
import urllib.request

import pytest

from conftest import ended, petiole, producer
from servers import START_DEADLINE, Process, metric
from waiting import wait_until

SECRET, KEY = "hush-a-secret-of-these-tests", "hush-a-key-of-these-tests"

CONFIG = """
keyvalue = "sqlite://keyvalue.db"

[env]
GREETING = "hello"

[secrets]
PASSWORD = { file = "password" }
KEY = { credential = "key" }

[folders]
data = "data"
out = "out"

[grants."granted.*"]
env = ["GREETING"]
secrets = ["PASSWORD", "KEY"]
http = ["GET https://api.example.com"]
keyvalue = true
folders = { data = "read-only", out = "read-write" }
temp = "1MiB"
"""

VALUES = """
[capabilities]
env = ["GREETING"]
secrets = ["PASSWORD", "KEY"]
http = ["https://api.example.com", "https://elsewhere.example.com"]
"""

STORAGE = """
[capabilities]
keyvalue = true
folders = { data = "read-write", out = "read-write" }
temp = "1MiB"

[tasks.read_file.capabilities]
keyvalue = true
folders = { data = "read-only" }
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A petiole.toml with grants, and the files that it names."""
    folder = tmp_path / "operator"
    for name in ("data", "out"):
        (folder / name).mkdir(parents=True)
    (folder / "data/greeting.txt").write_text("hello, task")
    (folder / "password").write_text(f"{SECRET}\n")
    (folder / "password").chmod(0o600)
    # As systemd does it for a unit with LoadCredential=key.
    (folder / "credentials").mkdir(mode=0o700)
    (folder / "credentials/key").write_text(KEY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "credentials"))
    (folder / "petiole.toml").write_text(CONFIG)
    return folder / "petiole.toml"


@pytest.fixture
def worker(queue, start_worker, config, tmp_path):
    return start_worker(queue, "--config", config, "--result-extended", store=f"file://{tmp_path}/modules")


@pytest.fixture
def app(amqp_url, redis_url, queue):
    with producer(amqp_url, redis_url, queue) as app:
        yield app


@pytest.fixture
def push(worker, component, tmp_path):
    """Pushes a component with a manifest."""

    def push(guest, name, manifest, *options, **settings):
        file = tmp_path / f"{name}.toml"
        file.write_text(manifest)
        arguments = ["push", component(guest), "--name", name, "--manifest", file, "--to", worker.http]
        return petiole(*arguments, *options, **settings)

    return push


def outcome(app, name, *args):
    """The outcome of a call: its result, or the text of its exception."""
    value = app.signature(name, args=args).apply_async().get(timeout=30, propagate=False)
    return repr(value) if isinstance(value, BaseException) else value


def environment(app, module):
    return dict(outcome(app, f"{module}.look_around"))["env"]


def test_push_tells_what_is_granted_and_refused(app, worker, push):
    said = push("probe", "granted.probe", VALUES).stdout
    assert "granted: env GREETING, secret KEY, secret PASSWORD, http GET https://api.example.com" in said
    assert "refused: http " in said and "https://elsewhere.example.com" in said
    assert '[grants."granted.probe"]' in said
    given = environment(app, "granted.probe")
    assert SECRET in given and KEY in given and "hello" in given

    said = json.loads(push("probe", "other.probe", VALUES, "--json").stdout)
    [task] = [task for task in said["tasks"] if task["name"] == "other.probe.look_around"]
    assert task["capabilities"]["asked"]["secrets"] == ["KEY", "PASSWORD"]
    assert task["capabilities"]["granted"] == {}
    assert {"env GREETING", "secret PASSWORD"} <= set(task["capabilities"]["refused"])
    assert task["limits"]["memory"] == 256 << 20
    assert environment(app, "other.probe") == "[]"

    shown = petiole("tasks", "granted.probe.add", "--to", worker.http).stdout
    assert "granted: env GREETING" in shown and "limits: memory 256MiB" in shown
    shown = petiole("modules", "show", "granted.probe", "--to", worker.http).stdout
    assert "manifest of version 1" in shown and '"PASSWORD"' in shown


def test_a_task_works_with_what_it_is_given(app, worker, push, config):
    said = push("storage", "granted.storage", STORAGE).stdout
    assert "refused: folder data read-write" in said
    task = lambda name, *args: outcome(app, f"granted.storage.{name}", *args)  # noqa: E731
    operators = config.parent

    assert task("read_file", "/data/greeting.txt") == "hello, task"
    assert task("list_folder", "/data") == ["greeting.txt"]
    assert "Error" in task("write_file", "/data/mine.txt", "x")
    assert not (operators / "data/mine.txt").exists()
    assert task("write_file", "/out/mine.txt", "from a task") is None
    assert (operators / "out/mine.txt").read_text() == "from a task"
    # That task has a manifest of its own, without this folder.
    assert "NotFound" in task("read_file", "/out/mine.txt")

    assert task("tidy", "/tmp") == ["1", "false"]
    assert task("write_file", "/tmp/mine.txt", "x") is None
    assert task("list_folder", "/tmp") == [], "each run has a folder of its own"

    assert task("kv_set", "key", "value") is None
    assert task("kv_get", "key") == "value"
    push("storage", "granted.other", STORAGE)
    assert outcome(app, "granted.other.kv_get", "key") is None, "each module has keys of its own"


def test_a_task_waits_for_a_folder_that_is_not_there(app, queue, worker, push, config):
    """It waits in the broker, and no other task waits for it: there are more than the worker fetches."""
    push("storage", "granted.storage", STORAGE)
    push("probe", "other.probe", "")
    data = config.parent / "data"
    away = data.rename(data.with_name("away"))
    waiting = [app.signature("granted.storage.read_file", args=("/data/greeting.txt",)).apply_async() for _ in range(100)]
    wait_until(lambda: metric(worker, "petiole_task_postponed_total") >= len(waiting), worker.log)
    assert worker.log().count("waits in the broker until") == 1, "why is said once"
    assert outcome(app, "other.probe.add", 1, 2) == 3
    assert not any(one.ready() for one in waiting)
    away.rename(data)
    assert {one.get(timeout=60) for one in waiting} == {"hello, task"}


def test_an_import_without_a_grant_is_refused(worker, push):
    # The author's turn: the manifest asks for nothing.
    refused = push("storage", "granted.storage", "", check=False)
    assert refused.returncode == 2
    assert "needs `keyvalue`: ask for it in the manifest's [capabilities]" in refused.stderr
    # The operator's.
    refused = push("storage", "other.storage", STORAGE, check=False)
    assert refused.returncode == 2
    assert '`keyvalue` under [grants."other.storage"]' in refused.stderr
    # A limit that is not the author's to raise.
    refused = push("probe", "granted.probe", "[defaults]\nmax_disk = '8GiB'\n", check=False)
    assert refused.returncode == 2
    assert "max_disk" in refused.stderr and "max_limits.disk" in refused.stderr
    assert json.loads(petiole("modules", "list", "--to", worker.http, "--json").stdout) == []


def test_no_secret_is_shown(app, worker, push, config, redis_client):
    shown = [petiole("config", "check", "--config", config).stdout]
    shown.append(push("probe", "granted.probe", VALUES).stdout)
    shown.append(petiole("tasks", "granted.probe.*", "--to", worker.http, "--json").stdout)
    shown.append(petiole("modules", "show", "granted.probe", "--to", worker.http, "--json").stdout)

    # A task that knows it: in its failure, in its log, and as a reason for a retry.
    failed = app.signature("granted.probe.fail", args=(f"can't connect with {SECRET}",)).apply_async()
    plain = app.signature("granted.probe.fail_plainly", args=(f"{SECRET}",)).apply_async()
    text = f"the password is {SECRET}, the key {KEY}"
    printed = app.signature("granted.probe.print_streams", args=(text,)).apply_async()
    for task, status in ((failed, "FAILURE"), (plain, "FAILURE"), (printed, "SUCCESS")):
        meta = ended(redis_client, task.id)
        assert meta["status"] == status
        # With --result-extended: the arguments are the caller's, and the caller knew it.
        shown.append(json.dumps({key: meta[key] for key in meta.keys() - {"args", "kwargs"}}))
    assert "can't connect with ***" in shown[-3]
    # One that returns it: its caller may have it, the log may not.
    returned = app.signature("granted.probe.echo", args=({"key": [KEY, SECRET]},)).apply_async()
    assert returned.get(timeout=30) == {"key": [KEY, SECRET]}
    wait_until(lambda: f"[{returned.id}] succeeded" in worker.log(), worker.log)
    line = "the password is ***, the key ***"
    log = wait_until(lambda: line in worker.log() and worker.log(), "the task's output is in the log")
    with urllib.request.urlopen(f"{worker.http}/metrics", timeout=5) as reply:
        metrics = reply.read().decode()
    for text in (*shown, log, metrics):
        assert SECRET not in text and KEY not in text


def test_config_check_reads_what_is_granted(config):
    said = petiole("config", "check", "--config", config).stdout
    assert f'PASSWORD = {{ file = "{config.parent}/password" }}' in said
    assert f'data = "{config.parent}/data"' in said
    (config.parent / "password").chmod(0o644)
    refused = petiole("config", "check", "--config", config, check=False)
    assert refused.returncode == 2
    assert "secrets.PASSWORD" in refused.stderr and "chmod 600" in refused.stderr
    (config.parent / "password").chmod(0o600)
    (config.parent / "data/greeting.txt").unlink()
    (config.parent / "data").rmdir()
    refused = petiole("config", "check", "--config", config, check=False)
    assert refused.returncode == 2
    assert "folders.data" in refused.stderr


def test_dev_and_run_grant_what_the_folder_grants(component, tmp_path):
    shutil.copy(component("storage"), tmp_path / "storage.wasm")
    (tmp_path / "storage.toml").write_text(STORAGE)
    (tmp_path / "petiole.toml").write_text('[grants."storage.tasks"]\nkeyvalue = true\ntemp = "1MiB"\n')
    command = [os.environ["PETIOLE_BIN"], "dev", "storage.wasm", "--http", "127.0.0.1:0", "--concurrency", "2"]
    dev = Process(command, tmp_path / "dev.log", {"XDG_CACHE_HOME": tmp_path / "cache"}, cwd=tmp_path).start()
    call = lambda *arguments: petiole(*arguments, cwd=tmp_path, env={"PETIOLE_TOKEN": ""})  # noqa: E731
    try:
        ready = lambda: dev.check() or (tmp_path / ".petiole/session.toml").exists()  # noqa: E731
        wait_until(ready, lambda: f"petiole dev is up\n{dev.log()}", START_DEADLINE)
        call("send", "storage.tasks.kv_set", "--args", '["key", "from dev"]', "--wait")
    finally:
        dev.stop()
    assert re.search(r"task storage\.tasks\.\w+ asks for folder out read-write", dev.log())
    assert (tmp_path / ".petiole/keyvalue.db").exists()
    run = call("run", "storage.wasm", "kv_get", "--args", '["key"]', "--manifest", "storage.toml", "--verbose")
    assert run.stdout == '"from dev"\n'
    assert "refused: folder data read-write, folder out read-write" in run.stderr
    assert "used: " in run.stderr
