"""A worker that starts before its servers waits for them, as Celery's does."""

import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import declare, producer
from servers import Rabbitmq, free_ports
from waiting import wait_until


def answer(worker, path):
    try:
        with urllib.request.urlopen(f"{worker.http}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_servers_that_come_up_after_the_worker_are_waited_for(tmp_path, queue, start_worker):
    rabbitmq, [port] = Rabbitmq(tmp_path / "rabbitmq"), free_ports(1)
    results = f"redis://127.0.0.1:{port}/0"
    # Celery's first steps write `pyamqp://`.
    broker = rabbitmq.url.replace("amqp://", "pyamqp://")
    worker = start_worker(queue, wait=False, broker=broker, results=results)

    def waits(what, attempt):
        worker.check()
        lines = [line for line in worker.log().splitlines() if "trying again in" in line]
        return any(what in line and f"({attempt}/100)" in line for line in lines)

    wait_until(lambda: waits("result backend", 1), lambda: f"it waits for Redis\n{worker.log()[-4000:]}", 60)
    assert answer(worker, "/healthz") == (200, "ok\n")
    assert answer(worker, "/readyz") == (503, "not ready: the worker waits for the result backend\n")
    status, text = answer(worker, "/v1/tasks")
    assert status == 503 and "the worker waits for the result backend" in text
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: waits("no broker answers", 1), lambda: f"it waits for RabbitMQ\n{worker.log()[-4000:]}", 60)
        assert answer(worker, "/readyz") == (503, "not ready: the worker waits for the broker\n")
        rabbitmq.start()
        worker.wait_ready()
        assert answer(worker, "/readyz") == (200, "ready\n")
        app = producer(rabbitmq.url, results, queue)
        assert app.send_task("probe.tasks.add", (2, 3)).get(timeout=60) == 5
        app.close()
    finally:
        worker.kill()
        server.kill()
        server.wait()
        rabbitmq.stop()


@pytest.mark.parametrize(
    ("lacking", "permissions"),
    [("to declare", ("", ".*", ".*")), ("to consume", (".*", ".*", "^(?!petiole-test-).*$"))],
    ids=["configure", "read"],
)
def test_a_worker_that_may_not_use_its_queue_was_never_ready(tmp_path, queue, start_worker, lacking, permissions):
    rabbitmq = Rabbitmq(tmp_path / "rabbitmq").start()
    try:
        rabbitmq.ctl("add_user", "petiole", "secret")
        rabbitmq.ctl("set_permissions", "petiole", *permissions)
        if lacking == "to consume":
            with producer(rabbitmq.url, None, queue) as app:
                declare(app, queue)
        worker = start_worker(queue, wait=False, broker=rabbitmq.url.replace("guest:guest", "petiole:secret"))
        assert worker.wait() == 3, worker.log()
        assert "403" in worker.log() and queue in worker.log(), worker.log()
        assert "ready." not in worker.log() and "secret" not in worker.log(), worker.log()
    finally:
        rabbitmq.stop()


def test_a_wrong_password_ends_a_worker_with_3(amqp_url, queue, start_worker):
    worker = start_worker(queue, wait=False, broker=amqp_url.replace("guest:guest", "guest:wrong"))
    assert worker.wait() == 3, worker.log()
    assert "wrong" not in worker.log(), worker.log()


def test_a_worker_that_waits_ends_when_it_is_told_to(queue, start_worker):
    [port] = free_ports(1)
    worker = start_worker(queue, wait=False, results=f"redis://127.0.0.1:{port}/0")
    wait_until(lambda: "trying again in" in worker.log(), worker.log, 60)
    assert worker.stop() == 0, worker.log()


def test_a_worker_that_connects_ends_when_it_is_told_to(queue, start_worker):
    """To a broker that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = start_worker(queue, wait=False, broker=f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//")
        connection, _ = silent.accept()
        with connection:
            assert worker.stop() == 0, worker.log()
