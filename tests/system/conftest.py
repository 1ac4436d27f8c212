"""Fixtures that the tests share: `cargo xtask test` starts the nodes and says where they are."""

import itertools
import json
import os
import shutil
import subprocess
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue

from fault_report import FAULTS
from hostile_report import REPORT
from servers import TOKEN, PythonWorker, Rabbitmq, Redis, Worker
from waiting import DEADLINE, wait_until

NEEDED = ("PETIOLE_TEST_AMQP_URL", "PETIOLE_TEST_REDIS_URL", "PETIOLE_TEST_COMPONENTS", "PETIOLE_BIN")


def pytest_configure(config):
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise pytest.UsageError(f"{', '.join(missing)} not set: run these tests by `cargo xtask test`")
    # Nothing of the caller's own configuration.
    for name in list(os.environ):
        if name.startswith(("PETIOLE_", "CELERY_")) and not name.startswith("PETIOLE_TEST_") and name not in NEEDED:
            if name not in ("PETIOLE_KILLS", "PETIOLE_FAULTS"):
                del os.environ[name]


def pytest_sessionfinish(session):
    """A process of several tells the first one what it has found."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = FAULTS.rows


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    FAULTS.rows += getattr(node, "workeroutput", {}).get("faults", [])


def pytest_terminal_summary(terminalreporter):
    REPORT.write(terminalreporter)
    FAULTS.write(terminalreporter)


@pytest.fixture(scope="session")
def amqp_url():
    return os.environ["PETIOLE_TEST_AMQP_URL"]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    """Each process of several has a server of its own: Redis announces what is stored to whoever listens."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield os.environ["PETIOLE_TEST_REDIS_URL"]
        return
    server = Redis(tmp_path_factory.mktemp("redis")).start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def redis_client(redis_url):
    return redis.Redis.from_url(redis_url, decode_responses=True)


@pytest.fixture(scope="session")
def component():
    """The file of a component, by its crate's name."""
    folder = Path(os.environ["PETIOLE_TEST_COMPONENTS"])
    return lambda name: folder / f"{name}.wasm"


def petiole(*arguments, env=None, check=True, cwd=None):
    """Runs the command line to its end."""
    done = subprocess.run(
        [os.environ["PETIOLE_BIN"], *map(str, arguments)],
        env={**os.environ, "PETIOLE_TOKEN": TOKEN, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )
    assert not check or done.returncode == 0, f"{arguments} exited with {done.returncode}:\n{done.stderr}{done.stdout}"
    return done


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("petiole")


@pytest.fixture(scope="session")
def store(folder, component):
    """A store with the two modules that the tests call."""
    url = f"file://{folder}/modules"
    petiole("push", component("my_app"), "--name", "my_app.tasks", "--store", url)
    petiole("push", component("probe"), "--name", "probe.tasks", "--store", url)
    return url


def producer(broker, results, queue, **settings):
    """The app of an ordinary Celery producer, which knows the tasks by their names alone."""
    app = Celery("producer", broker=broker, backend=results, set_as_current=False)
    app.conf.update(task_default_queue=queue, broker_transport_options={"confirm_publish": True}, **settings)
    return app


def declare(app, queue):
    """A queue as the app itself declares it."""
    with app.connection_for_write() as connection:
        app.amqp.queues[queue](connection.default_channel).declare()


def length(app, queue):
    """The messages that nobody has taken."""
    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue, passive=True).message_count


class Quarantine:
    """The messages that a worker has kept."""

    def __init__(self, app, queue):
        self.app, self.queue, self.messages = app, queue, []

    def find(self, condition, what):
        """The first message kept, now or soon, for which `condition(message)` is true."""

        def found():
            self.take()
            return next((message for message in self.messages if condition(message)), None)

        return wait_until(found, lambda: f"{what} is kept; kept are {[one.headers for one in self.messages]}")

    def take(self):
        with self.app.connection_for_read() as connection:
            channel = connection.default_channel
            while (message := channel.basic_get(self.queue, no_ack=True)) is not None:
                self.messages.append(channel.message_to_python(message))


class Site:
    """A broker with a Petiole worker, a Python worker and a producer on queues of their own."""

    def __init__(self, app, queue, worker, redis_client):
        self.app, self.queue, self.worker, self.redis = app, queue, worker, redis_client
        self.quarantine = Quarantine(app, f"{queue}-quarantine")

    def task(self, name, /, *args, **kwargs):
        return self.app.signature(name, args=args, kwargs=kwargs)

    def calls(self, result, number=1):
        """The calls of the Python tasks in the result's workflow, once there are this many."""
        key = f"calls:{result.id}"
        what = lambda: f"{number} calls, but {self.redis.lrange(key, 0, -1)}\n{self.worker.log()[-3000:]}"  # noqa: E731
        wait_until(lambda: self.redis.llen(key) >= number, what)
        return [json.loads(call) for call in self.redis.lrange(key, 0, -1)]

    def ended(self, task_id):
        """The stored result of a task, once it has ended (Redis only)."""
        return ended(self.redis, task_id)

    def publish(self, body, **message):
        publish(self.app, self.queue, body, **message)


def publish(
    app, queue, body, *, content_type="application/json", content_encoding="utf-8", headers=None, **properties
):
    """Sends a message that no producer would."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        message = channel.prepare_message(
            body,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=headers or {},
            properties={"delivery_mode": 2, **properties},
        )
        channel.basic_publish(message, exchange="", routing_key=queue)


FINAL = ("SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED")


def ended(client, task_id, deadline=DEADLINE):
    def final():
        meta = json.loads(client.get(f"celery-task-meta-{task_id}") or "{}")
        return meta if meta.get("status") in FINAL else None

    return wait_until(final, lambda: f"{task_id} has ended", deadline)


def queue_type(kind):
    """Celery's settings for an app whose queues are of this type."""
    return {"task_default_queue_type": kind, "task_create_missing_queue_type": kind}


@contextmanager
def open_site(folder, kind, amqp_url, redis_url, redis_client, store, queues="classic"):
    results = redis_url if kind == "redis" else "rpc://"
    queue = f"petiole-{kind}-{uuid.uuid4().hex[:8]}"
    python_queue = f"{queue}-python"
    app = producer(amqp_url, results, queue, **queue_type(queues))
    declare(app, queue)
    python = PythonWorker(
        folder,
        name=queue,
        broker=amqp_url,
        results=results,
        redis=redis_url,
        queue=python_queue,
        wasm_queue=queue,
        queues=queues,
    ).start()
    # First, as its queue is of its own type: a worker with a route declares the queue where there is none.
    python.wait_ready()
    worker = Worker(
        folder,
        name=queue,
        broker=amqp_url,
        results=results,
        store=store,
        queues=[queue],
        options=["--route", f"py.*={python_queue}", "--quarantine-queue", f"{queue}-quarantine"],
    ).start()
    try:
        worker.wait_ready()
        yield Site(app, queue, worker, redis_client)
        worker.check()
    finally:
        python.kill()
        worker.kill()
        app.close()


@pytest.fixture(scope="session")
def redis_site(folder, amqp_url, redis_url, redis_client, store):
    with open_site(folder, "redis", amqp_url, redis_url, redis_client, store) as site:
        yield site


@pytest.fixture(scope="session")
def rpc_site(folder, amqp_url, redis_url, redis_client, store):
    with open_site(folder, "rpc", amqp_url, redis_url, redis_client, store) as site:
        yield site


@pytest.fixture(params=["redis", "rpc"])
def site(request):
    """Every test that uses this runs with either result backend."""
    return request.getfixturevalue(f"{request.param}_site")


# RabbitMQs of other versions than this machine's own.
UNPACKED = [Path(folder) for folder in os.environ.get("PETIOLE_TEST_RABBITMQS", "").split(os.pathsep) if folder]


def version_of(unpacked):
    return (unpacked / "version").read_text().strip() if unpacked else "own"


@pytest.fixture(scope="module", params=[None, *UNPACKED], ids=version_of)
def rabbitmq(request, tmp_path_factory):
    """A node of each version."""
    node = Rabbitmq(tmp_path_factory.mktemp("rabbitmq"), request.param).start()
    yield node
    node.stop()


@pytest.fixture
def own_redis(tmp_path):
    """A Redis server of the test's own, in which nobody else stores anything."""
    server = Redis(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture(params=["classic", "quorum"])
def kind(request):
    """The type of a queue."""
    return request.param


@pytest.fixture
def queue():
    return f"petiole-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def app(rabbitmq, redis_url, queue, kind):
    """A producer on each version, with a queue of each type."""
    with producer(rabbitmq.url, redis_url, queue, **queue_type(kind)) as app:
        declare(app, queue)
        yield app


@pytest.fixture
def outside(redis_site, queue):
    """A queue that no worker is configured with, which somebody has declared."""
    with redis_site.app.connection_for_write() as connection:
        Queue(queue, Exchange(queue), queue)(connection.default_channel).declare()
    return queue


@pytest.fixture
def start_worker(tmp_path, amqp_url, redis_url, store, folder):
    """Starts workers of the test's own, on queues of its own."""
    workers, numbers = [], itertools.count(1)

    def start(queue, *options, wait=True, **settings):
        settings = {"broker": amqp_url, "results": redis_url, "store": store, "queues": [queue], **settings}
        env = {"PETIOLE_CACHE": folder / "cache", **settings.pop("env", {})}
        worker = Worker(tmp_path, name=f"w{next(numbers)}-{queue}", options=options, env=env, **settings).start()
        workers.append(worker)
        return worker.wait_ready() if wait else worker

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def start_python(tmp_path, amqp_url, redis_url):
    """Starts a Python worker beside a queue, with a queue of its own: `<queue>-python`."""
    workers = []

    def start(queue, queues="classic"):
        settings = {"broker": amqp_url, "results": redis_url, "redis": redis_url, "wasm_queue": queue, "queues": queues}
        worker = PythonWorker(tmp_path, name=queue, queue=f"{queue}-python", **settings).start()
        workers.append(worker)
        return worker.wait_ready()

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def own_store(tmp_path, folder, store):
    """A copy of the store, to be changed by the test."""
    copy = tmp_path / "modules"
    # Without the reports of the other store's workers.
    shutil.copytree(folder / "modules", copy, ignore=shutil.ignore_patterns("workers"))
    return f"file://{copy}"
