"""The processes that the tests start: the worker, Celery's worker, and servers of their own."""

import csv
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import redis

from waiting import wait_until

HERE = Path(__file__).parent
START_DEADLINE = 120.0
TOKEN = "a token that only the tests know"


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Process:
    """A process whose output goes to a file."""

    def __init__(self, command, log, env=None, cwd=None):
        self.command, self.log_file, self.cwd = [str(part) for part in command], Path(log), cwd
        self.env = {**os.environ, **{key: str(value) for key, value in (env or {}).items()}}
        self.env.pop("RUST_BACKTRACE", None)  # would make each task slower
        self.process = None

    def start(self):
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=self.cwd
            )
        return self

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait(self, deadline=60):
        """The exit code."""
        return self.process.wait(deadline)

    def kill(self):
        if self.is_running():
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def stop(self, number=signal.SIGTERM, deadline=60):
        """Asks it to end, and insists on it after the deadline."""
        if self.is_running():
            self.send_signal(number)
        try:
            return self.wait(deadline)
        finally:
            self.kill()

    def check(self):
        """True while it runs; shows its output when it has ended."""
        assert self.is_running(), f"{self.command[0]} ended with {self.process.returncode}:\n{self.log()[-4000:]}"


class Node(Process):
    """A `petiole` process with an HTTP API on a free port."""

    def __init__(self, folder, name, arguments, env=None):
        [self.port] = free_ports(1)
        self.http = f"http://127.0.0.1:{self.port}"
        command = [os.environ["PETIOLE_BIN"], *arguments, "--http", f"127.0.0.1:{self.port}"]
        env = {"PETIOLE_TOKEN": TOKEN, "PETIOLE_CACHE": Path(folder) / "cache", **(env or {})}
        super().__init__(command, Path(folder) / f"{name}.log", env, cwd=folder)

    def is_ready(self):
        self.check()
        try:
            with urllib.request.urlopen(f"{self.http}/readyz", timeout=1) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self):
        wait_until(self.is_ready, lambda: f"the worker is ready\n{self.log()[-4000:]}", START_DEADLINE)
        return self


class Worker(Node):
    """`petiole worker`."""

    def __init__(self, folder, *, name, broker, results, store, queues, options=(), env=None):
        self.store = store
        arguments = ["worker", "--broker", broker, "--results", results]
        arguments += ["--store", store, "--queues", ",".join(queues), "--default-queue", queues[0]]
        # an empty folder, so that no petiole.toml is found by chance
        super().__init__(folder, name, [*arguments, "--hostname", f"{name}@tests", *options], env)


def form(**parts):
    """A body of an upload, and its content type: what the worker is given beside a component goes in a form."""
    body = b"".join(
        b'--limit\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), content)
        for name, content in parts.items()
        if content is not None
    )
    return body + b"--limit--\r\n", "multipart/form-data; boundary=limit"


class PythonWorker(Process):
    """Celery's own worker with the tasks of `python_tasks.py`."""

    def __init__(self, folder, *, name, broker, results, redis, queue, wasm_queue, queues="classic"):
        command = [sys.executable, "-m", "celery", "-A", "python_tasks", "worker", "-P", "solo", "-l", "info"]
        command += ["-Q", queue, "-n", f"{name}@python", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        env = {
            "PYTHON_BROKER_URL": broker,
            "PYTHON_RESULT_BACKEND": results,
            "PYTHON_QUEUE": queue,
            "PYTHON_QUEUE_TYPE": queues,
            "PYTHON_WASM_QUEUE": wasm_queue,
            "PYTHON_RECORD_URL": redis,
        }
        super().__init__(command, Path(folder) / f"{name}-python.log", env, cwd=HERE)

    def wait_ready(self):
        def ready():
            self.check()
            return " ready." in self.log()

        wait_until(ready, lambda: f"Celery's worker is ready\n{self.log()[-4000:]}", START_DEADLINE)
        return self


class Rabbitmq:
    """A RabbitMQ node of a test's own: see `tests/nodes/rabbitmq.sh`. `unpacked` is the folder of another version
    than this machine's own, `settings` are lines of rabbitmq.conf, `arguments` are Erlang's."""

    def __init__(self, folder, unpacked=None, settings=(), arguments=()):
        self.folder, self.ports, self.process = Path(folder), free_ports(3), None
        self.unpacked, self.settings, self.arguments = unpacked, settings, arguments
        self.url = f"amqp://guest:guest@127.0.0.1:{self.ports[0]}/%2f"

    def start(self):
        """Starts it, on the data that it left when it was killed."""
        script = HERE.parent / "nodes" / "rabbitmq.sh"
        arguments = [str(script), str(self.folder), *map(str, self.ports)]
        arguments += [str(self.unpacked)] if self.unpacked else []
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "more.conf").write_text("".join(f"{line}\n" for line in self.settings))
        (self.folder / "more.args").write_text(" ".join(self.arguments))
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True)
        wait_until(self.answers, lambda: f"RabbitMQ is up\n{(self.folder / 'output').read_text()}", START_DEADLINE)
        return self

    def answers(self):
        assert self.process.poll() is None, (self.folder / "output").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.ports[0]), 1) as connection:
                connection.settimeout(1)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def ctl(self, *arguments):
        """Runs `rabbitmqctl`, where the node sees its files."""
        inside = ["nsenter", "--mount", "--target", self.pid(), "chroot", self.unpacked] if self.unpacked else []
        command = [*inside, "/usr/lib/rabbitmq/bin/rabbitmqctl", "-n", f"petiole-{self.ports[0]}@localhost", *arguments]
        env = {**os.environ, "HOME": str(self.folder), "ERL_EPMD_PORT": str(self.ports[2])}
        done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    def pid(self):
        return int((self.folder / "pid").read_text())

    def kill(self):
        """kill -9; its data stays."""
        os.kill(self.pid(), signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()

    def stop(self):
        """Ends it, and removes its data."""
        if self.process is not None and self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait()


class Redis:
    """A Redis server of a test's own: see `tests/nodes/redis.sh`."""

    def __init__(self, folder):
        self.folder, self.process = Path(folder), None
        [self.port] = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)

    def start(self):
        script = HERE.parent / "nodes" / "redis.sh"
        self.process = subprocess.Popen(
            [str(script), str(self.folder), str(self.port)], stdin=subprocess.PIPE, start_new_session=True
        )
        wait_until(self.answers, "Redis is up", START_DEADLINE)
        return self

    def answers(self):
        try:
            return self.client.ping()
        except redis.ConnectionError:
            return False

    def replicate(self, primary):
        self.client.replicaof("127.0.0.1", primary.port)
        up = lambda: self.client.info("replication").get("master_link_status") == "up"  # noqa: E731
        wait_until(up, "the replica has what its primary has")

    def is_primary(self):
        return self.client.info("replication")["role"] == "master"

    def stop(self):
        """Ends it, and removes its data."""
        self.client.close()
        self.process.stdin.close()
        self.process.wait()


class Postgres:
    """A PostgreSQL server of a test's own: see `tests/nodes/postgres.sh`."""

    PASSWORD = "a password that only the tests know"

    def __init__(self, folder):
        self.folder, self.process = Path(folder), None
        [self.port] = free_ports(1)
        self.url = f"postgres://petiole:{urllib.parse.quote(self.PASSWORD)}@127.0.0.1:{self.port}/petiole"

    def start(self):
        script = HERE.parent / "nodes" / "postgres.sh"
        self.process = subprocess.Popen(
            [str(script), str(self.folder), str(self.port)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PGPASSWORD": self.PASSWORD},
        )
        wait_until(self.answers, lambda: f"PostgreSQL is up\n{(self.folder / 'output').read_text()}", START_DEADLINE)
        return self

    def answers(self):
        """True once it answers a request for TLS, as it does when it serves (PostgreSQL's section 55.2)."""
        assert self.process.poll() is None, (self.folder / "output").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(struct.pack(">II", 8, 80877103))
                return connection.recv(1) in (b"N", b"S")
        except OSError:
            return False

    def query(self, sql):
        """The rows of a query, by psql, each as a list of texts; NULL is empty."""
        command = ["psql", "--no-psqlrc", "--quiet", "--csv", "--tuples-only", "--set=ON_ERROR_STOP=1", self.url]
        done = subprocess.run([*command, "--command", sql], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return list(csv.reader(done.stdout.splitlines()))

    def stop(self):
        """Ends it, and removes its data."""
        self.process.stdin.close()
        self.process.wait()


def metric(node, name):
    """The first number of that name which a node shows."""
    request = urllib.request.Request(f"{node.http}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return int(re.search(rf"^{name}(?:{{[^}}]*}})? (\d+)", reply.read().decode(), re.MULTILINE)[1])
