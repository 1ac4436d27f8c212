"""Limits, accounting, fairness. Each limit has its own exception, which Python, the log and the metrics show."""

import re
import urllib.request
import uuid

import pytest

from conftest import petiole, producer
from servers import Worker
from test_failures import raises
from waiting import wait_until

MODULE = "limited.tasks"

# name of the limit: function, arguments, its settings, exception, how its message begins
LIMITS = {
    "memory": ("eat_memory", (64,), 'memory = "16MiB"', "MemoryLimitExceeded", "memory limit of 16 MiB exceeded: the task asked for "),
    "table_elements": ("nothing", (), "max_table_elements = 1", "TableLimitExceeded", "table limit of 1 elements exceeded: the task asked for "),
    "cpu_time": ("spin", (), "cpu_time_limit = 0.2", "CpuTimeLimitExceeded", "CPU time limit of 0.2 s exceeded: the task used 0."),
    "time": ("sleep_ms", (60_000,), "time_limit = 0.2", "TimeLimitExceeded", "0.2"),
    "arguments": ("echo", ("x" * 2000,), 'max_arguments = "1KiB"', "ArgumentsTooLarge", "argument limit of 1024 bytes exceeded: the task was given 2"),
    "result": ("large_result", (5000,), 'max_result = "4KiB"', "ResultTooLarge", "the result is 5002 bytes of JSON: the limit is 4096"),
    "log": ("log_lines", (1000,), 'max_log = "4KiB"', "LogLimitExceeded", "log limit of 4 KiB exceeded: the task wrote "),
    "handles": ("print_streams", ("text",), "max_handles = 0", "HandleLimitExceeded", "handle limit of 0 exceeded: the task asked for 1"),
    "random": ("random_bytes", (100,), "max_random = 64", "RandomLimitExceeded", "random limit of 64 bytes exceeded: the task asked for 100 bytes"),
    "host_calls": ("progress", (100_000,), "max_host_calls = 1000", "HostCallLimitExceeded", "host call limit of 1000 exceeded: the task made "),
    "children": ("send_children", ("nobody.listens", 9), "max_children = 3", "ChildrenLimitExceeded", "children limit of 3 exceeded: the task sent 4"),
    "descendants": ("send_child_and_fail", ("nobody.listens",), "max_descendants = 0", "DescendantsLimitExceeded", "descendants limit exceeded: 0 may still come"),
    "depth": ("send_child", ("nobody.listens", []), "max_depth = 0", "DepthLimitExceeded", "depth limit exceeded: 0 more levels"),
    "requests": ("connect_to", ("127.0.0.1:1", 3), 'max_requests = 2\ncapabilities = { tcp = ["127.0.0.1:1"] }', "RequestLimitExceeded", "request limit of 2 exceeded: the task made 3"),
    "disk": ("write_file", ("/tmp/x", 100_000), 'max_disk = "16KiB"\ncapabilities = { temp = "1MiB" }', "DiskLimitExceeded", "disk limit of 16 KiB exceeded: the task wrote "),
    "stack": ("recurse", (100_000_000,), "", "StackOverflow", "call stack exhausted"),
}  # fmt: skip

MANIFEST = "".join(f"[tasks.{function}]\n{settings}\n\n" for function, _, settings, *_ in LIMITS.values())

CONFIG = f"""
[grants."{MODULE}"]
tcp = ["127.0.0.1:1"]
temp = "1MiB"

[max_limits]
time = 600
"""


class Limited:
    """A worker with the probe under a manifest that sets each limit of some task low."""

    def __init__(self, worker, app, redis):
        self.worker, self.app, self.redis = worker, app, redis

    def send(self, task, /, *args, **options):
        return self.app.signature(f"{MODULE}.{task}", args=args).apply_async(**options)

    def metric(self, metric_name, /, **labels):
        return metric(self.worker, metric_name, **labels)


def metric(worker, metric_name, /, **labels):
    """The sum of a metric's values under these labels."""
    with urllib.request.urlopen(f"{worker.http}/metrics", timeout=10) as reply:
        assert reply.headers["content-type"].startswith("application/openmetrics-text")
        lines = reply.read().decode().splitlines()
    assert lines[-1] == "# EOF"
    found = [line for line in lines if line.startswith(metric_name + "{")]
    found = [line for line in found if all(f'{label}="{value}"' in line for label, value in labels.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def push(folder, store, name, manifest, component, check=True):
    file = folder / f"{name}.toml"
    file.write_text(manifest)
    return petiole(
        "push", component, "--name", name, "--manifest", file, "--store", store, cwd=folder, check=check
    )


@pytest.fixture(scope="module")
def limited(tmp_path_factory, amqp_url, redis_url, redis_client, component):
    folder = tmp_path_factory.mktemp("limited")
    (folder / "petiole.toml").write_text(CONFIG)
    queue, store = f"petiole-limited-{uuid.uuid4().hex[:8]}", f"file://{folder}/modules"
    push(folder, store, MODULE, MANIFEST, component("probe"))
    options = ["--log-format", "json", "--result-extended"]
    worker = Worker(
        folder, name=queue, broker=amqp_url, results=redis_url, store=store, queues=[queue], options=options
    ).start()
    try:
        worker.wait_ready()
        with producer(amqp_url, redis_url, queue, result_extended=True) as app:
            yield Limited(worker, app, redis_client)
        worker.check()
    finally:
        worker.kill()


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_ends_its_task(limited, limit):
    function, args, _, exception, message = LIMITS[limit]
    labels = {"name": f"{MODULE}.{function}", "limit": limit}
    before = limited.metric("petiole_limit_exceeded_total", **labels)
    result = limited.send(function, *args)
    error = raises(result, exception)
    assert result.state == "FAILURE"
    said = str(error.args[0] if error.args else error)
    assert said.startswith(message), said
    # It is counted once the message is settled.
    told = lambda: limited.metric("petiole_limit_exceeded_total", **labels) == before + 1  # noqa: E731
    wait_until(told, "the limit is counted")
    failed = {"name": f"{MODULE}.{function}", "exception": exception}
    wait_until(lambda: limited.metric("celery_task_failed_total", **failed) >= 1, "it is told")
    needle = "TimeLimitExceeded(0.2)" if limit == "time" else message.split(":")[0]
    wait_until(lambda: any(result.id in line and needle in line for line in limited.worker.log().splitlines()), "it is told")


def test_every_limit_is_tried_here(limited):
    """The names are those of the configuration, and the stack."""
    shown = petiole("config", "check", cwd=limited.worker.cwd).stdout
    table = shown.split("[max_limits]\n")[1].split("\n[")[0]
    assert set(re.findall(r"^(\w+) =", table, re.MULTILINE)) == set(LIMITS) - {"stack"}


def test_a_worker_with_limits_goes_on(limited):
    assert limited.send("add", 1, 2).get(timeout=30) == 3


def test_the_message_lowers_the_time_limit(limited):
    result = limited.send("compute_ms", 60_000, time_limit=0.3)
    raises(result, "TimeLimitExceeded")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ('memory = "2GiB"', ["memory = 2GiB", "1GiB", "max_limits.memory"]),
        ("time_limit = 601", ["time_limit = 601 s", "600 s", "max_limits.time"]),
        ("max_descendants = 1000001", ["max_descendants = 1000001", "1000000", "max_limits.descendants"]),
        ('max_disk = "5GiB"', ["max_disk = 5GiB", "4GiB", "max_limits.disk"]),
        ("max_retries = 10001", ["max_retries = 10001", "max_descendants of 10000"]),
    ],
)
def test_a_manifest_can_not_ask_for_more_than_the_worker_gives(tmp_path, own_store, component, settings, named):
    (tmp_path / "petiole.toml").write_text(CONFIG)
    pushed = push(tmp_path, own_store, "greedy", f"[tasks.add]\n{settings}\n", component("probe"), check=False)
    assert pushed.returncode == 2, pushed.stderr
    for part in [*named, "greedy.add"]:
        assert part in pushed.stderr
    assert "greedy" not in petiole("modules", "list", "--store", own_store, cwd=tmp_path).stdout


def test_a_manifest_raises_a_limit_up_to_the_ceiling(
    tmp_path, own_store, component, start_worker, queue, amqp_url, redis_url
):
    push(tmp_path, own_store, "raised", '[tasks.eat_memory]\nmemory = "512MiB"\n', component("probe"))
    start_worker(queue, "--concurrency", "2", store=own_store)
    with producer(amqp_url, redis_url, queue) as app:
        assert app.signature("raised.eat_memory", args=(300,)).apply_async().get(timeout=60) == 300
        raises(app.signature("probe.tasks.eat_memory", args=(300,)).apply_async(), "MemoryLimitExceeded")


def test_the_usage_of_a_task_is_told(limited):
    result = limited.send("log_lines", 3)
    assert result.get(timeout=30) == 3
    assert (result.name, result.args, result.state) == (f"{MODULE}.log_lines", [3], "SUCCESS")
    usage = result._get_task_meta()["usage"]
    assert set(usage) == {
        "seconds", "cpu", "peak_memory", "host_calls", "log", "bytes_in", "bytes_out", "requests", "disk", "children",
    }  # fmt: skip
    assert 0 < usage["cpu"] <= usage["seconds"] < 10
    assert usage["peak_memory"] >= 1 << 16
    assert usage["host_calls"] >= 6 and usage["log"] > 0
    assert (usage["bytes_in"], usage["requests"], usage["disk"], usage["children"]) == (0, 0, 0, 0)
    # It is logged after the ack, when the result may have been read.
    said = lambda: [line for line in limited.worker.log().splitlines() if f"[{result.id}] succeeded in" in line]  # noqa: E731
    [line] = wait_until(said, limited.worker.log)
    for name in ("cpu", "peak_memory", "host_calls", "log", "bytes_in", "bytes_out"):
        assert f'"{name}":' in line


def test_a_task_is_counted_by_name_and_queue(limited):
    labels = {"name": f"{MODULE}.add", "queue_name": limited.app.conf.task_default_queue}
    before = limited.metric("celery_task_succeeded_total", **labels)
    for n in range(3):
        limited.send("add", n, n).get(timeout=30)
    wait_until(lambda: limited.metric("celery_task_succeeded_total", **labels) == before + 3, "it is told")
    assert limited.metric("celery_task_runtime_count", **labels) >= 3
    assert limited.metric("celery_task_runtime_bucket", le="10.0", **labels) >= 3
    for name in ("petiole_task_cpu_seconds_total", "petiole_task_peak_memory_bytes_count"):
        assert limited.metric(name, name=f"{MODULE}.add") > 0
    limited.send("log_lines", 1).get(timeout=30)
    assert limited.metric("petiole_task_host_calls_total", name=f"{MODULE}.log_lines") > 0


def test_nobody_makes_up_names_of_metrics(limited):
    name = f"made.up.{uuid.uuid4().hex}"
    raises(limited.app.signature(name).apply_async(), "NotRegistered")
    wait_until(lambda: limited.metric("celery_task_failed_total", name="(unknown)", exception="NotRegistered") >= 1, "it is told")
    assert limited.metric("celery_task_received_total", name=name) == 0


def test_a_fork_bomb_ends_at_its_roots_number(tmp_path, own_store, component, start_worker, queue, amqp_url, redis_url):
    push(tmp_path, own_store, "bomb", "[tasks.fork]\nmax_descendants = 30\n", component("probe"))
    worker = start_worker(queue, store=own_store)
    with producer(amqp_url, redis_url, queue) as app:
        app.signature("bomb.fork").apply_async().get(timeout=30)
        started = lambda: metric(worker, "celery_task_started_total", name="bomb.fork")  # noqa: E731
        done = lambda: metric(worker, "celery_task_succeeded_total", name="bomb.fork")  # noqa: E731
        # 1 + 2 + 4 + 8 send two each; to each of the next 16 nothing is left
        wait_until(lambda: started() >= 31 and done() == 15, lambda: f"31 runs: {started()}, {done()} of them good")
        with app.connection_for_read() as connection:
            left = connection.default_channel.queue_declare(queue, passive=True).message_count
        assert (left, started()) == (0, 31)
        wait_until(lambda: metric(worker, "petiole_limit_exceeded_total", name="bomb.fork", limit="descendants") == 16, "it is told")


def overlapping(intervals):
    """True if any two of them do."""
    intervals = sorted(intervals)
    return any(end > begin for (_, end), (begin, _) in zip(intervals, intervals[1:]))


def test_a_module_s_cap_keeps_nobody_else_waiting(
    tmp_path, own_store, component, start_worker, queue, amqp_url, redis_url
):
    """Its backlog holds no slot, as long as the prefetch (here 2 * 10) has room for it."""
    push(tmp_path, own_store, "capped", "concurrency = 1\n", component("probe"))
    start_worker(queue, "--concurrency", "2", "--prefetch-multiplier", "10", store=own_store)
    with producer(amqp_url, redis_url, queue) as app:
        backlog = [app.signature("capped.sleep_between", args=(300,)).apply_async() for _ in range(6)]
        others = [app.signature("probe.tasks.sleep_between", args=(1,)).apply_async() for _ in range(10)]
        others = [one.get(timeout=30) for one in others]
        backlog = [one.get(timeout=30) for one in backlog]
    assert not overlapping(backlog)
    last, _ = max(backlog)
    assert all(end <= last for _, end in others), (backlog, others)


def test_what_waits_for_its_cap_goes_back_at_a_warm_shutdown(
    tmp_path, own_store, component, start_worker, queue, amqp_url, redis_url
):
    push(tmp_path, own_store, "capped", "concurrency = 1\n", component("probe"))
    worker = start_worker(queue, "--concurrency", "4", store=own_store)
    with producer(amqp_url, redis_url, queue) as app:
        tasks = [app.signature("capped.sleep_ms", args=(300,)).apply_async() for _ in range(20)]
        received = lambda: metric(worker, "celery_task_received_total", name="capped.sleep_ms")  # noqa: E731
        wait_until(lambda: received() >= 10, lambda: f"10 received: {received()}")
        assert worker.stop() == 0
        with app.connection_for_read() as connection:
            left = connection.default_channel.queue_declare(queue, passive=True).message_count
        done = [one for one in tasks if one.successful()]
        assert len(done) + left == 20 and left >= 10, (len(done), left)


def test_a_queue_s_cap_keeps_no_other_queue_waiting(tmp_path, start_worker, queue, amqp_url, redis_url):
    heavy = f"{queue}-heavy"
    (tmp_path / "petiole.toml").write_text(f'queue_concurrency = {{ "{heavy}" = 1 }}\n')
    worker = start_worker(queue, "--concurrency", "2", "--prefetch-multiplier", "1", queues=[queue, heavy])
    with producer(amqp_url, redis_url, queue) as app:
        task = "probe.tasks.sleep_between"
        # more than any prefetch
        backlog = [app.signature(task, args=(300,)).apply_async(queue=heavy) for _ in range(6)]
        others = [app.signature(task, args=(1,)).apply_async() for _ in range(10)]
        others = [one.get(timeout=30) for one in others]
        backlog = [one.get(timeout=30) for one in backlog]
    assert not overlapping(backlog)
    last, _ = max(backlog)
    assert all(end <= last for _, end in others), (backlog, others)
    wait_until(lambda: metric(worker, "celery_task_succeeded_total", queue_name=heavy) == 6, "it is told")


def test_a_task_that_gives_its_message_back_does_not_run_for_ever(limited):
    result = limited.send("reject", True)
    raises(result, "Reject")
    wait_until(lambda: limited.metric("celery_task_rejected_total", name=f"{MODULE}.reject") == 21, "it is told")


def test_a_task_that_retries_for_ever_does_not(
    tmp_path, own_store, component, start_worker, queue, amqp_url, redis_url
):
    push(tmp_path, own_store, "again", "[tasks.retry_in_vain]\nmax_descendants = 10\n", component("probe"))
    worker = start_worker(queue, store=own_store)
    with producer(amqp_url, redis_url, queue) as app:
        raises(app.signature("again.retry_in_vain", args=(1_000_000,)).apply_async(), "StillBroken")
    wait_until(lambda: metric(worker, "celery_task_started_total", name="again.retry_in_vain") == 11, "it is told")
