"""Faults of servers, messages and the catalog, under load and on each RabbitMQ that is at hand: nothing is lost, nobody
waits for ever, no task ends twice, and no message is published twice but after a crash or a cut.

Kills are in `test_kill.py` and `test_versions.py`.
"""

import os
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest

from conftest import Quarantine, declare, petiole, producer, publish, version_of
from load import Announcements, Load, drain, judge
from oracle import Expected
from proxy import behind
from servers import Redis
from tap import Tap
from waiting import wait_until

# In all that one test injects.
FAULTS = int(os.environ.get("PETIOLE_FAULTS", "100"))
# Tasks of a module at once.
BURST = 10
# So deep that its headers are not read.
TOO_DEEP = 70


@dataclass
class Injected:
    """The expected effects of faults: ends of tasks, and messages that are kept."""

    ends: list = field(default_factory=list)
    kept: list = field(default_factory=list)

    def fails(self, task_id):
        """A task that does not run, and whose message is kept."""
        self.ends.append(Expected(task_id, "FAILURE"))
        self.kept.append(task_id)


class Injector:
    """Injects faults beside a load, into the servers, proxies and workers that a test has."""

    def __init__(self, app, queue, load, *, rabbitmq=None, worker=None, component=None, proxies=None):
        self.app, self.queue, self.load = app, queue, load
        self.rabbitmq, self.worker, self.component, self.proxies = rabbitmq, worker, component, proxies
        self.injected, self.counts, self.races = Injected(), Counter(), 0

    def run(self, numbers):
        """Injects so many faults of each kind, in an order by chance, while the load goes on."""
        deck = [fault for fault, number in numbers.items() for _ in range(number)]
        random.shuffle(deck)
        for fault in deck:
            self.load.goes_on(20)
            self.counts[fault.__name__] += fault(self)

    def expected(self):
        return self.load.expected + self.injected.ends

    def raw(self, body=b"[[1, 2], {}, {}]", headers=None, **properties):
        task_id = str(uuid.uuid4())
        headers = {"id": task_id, "task": "probe.tasks.add", **(headers or {})}
        publish(self.app, self.queue, body, headers=headers, correlation_id=task_id, **properties)
        return task_id

    def refused(self):
        """Messages that are not run."""
        errback = self.load.task("probe.tasks.echo")
        unknown = self.load.task("nobody.has.this")
        unknown.link_error(errback)
        wrong = self.load.task("probe.tasks.add", "one", 2)
        for one in (unknown, wrong):
            self.load.send(one)
            self.injected.fails(one.id)
        self.injected.ends.append(Expected(errback.id, "SUCCESS", unknown.id))
        deep = "deep"
        for _ in range(TOO_DEEP):
            deep = [deep]
        for message in (
            {"body": b"{"},
            {"body": b"\xff", "content_encoding": "base64"},
            {"content_type": "application/x-python-serialize"},
            {"headers": {"deep": deep}},
            {"headers": {"retries": "three"}},
            {"headers": {"timelimit": [1]}},
            {"headers": {"x-petiole-depth": 3}},
        ):
            self.injected.fails(self.raw(**message))
        late = datetime.now(timezone.utc) - timedelta(hours=1)
        self.injected.ends.append(Expected(self.raw(headers={"expires": late.isoformat()}), "REVOKED"))
        return 10

    def unsendable(self):
        """Callbacks that AMQP can't carry, or that the broker refuses for good."""
        for callback in (
            self.load.task("long." + "x" * 200_000),
            self.load.task("probe.tasks.echo").set(headers={"large": "x" * 200_000}),
            self.load.task("probe.tasks.echo").set(queue="q" * 300),
            self.load.task("probe.tasks.echo").set(queue="amq.rabbitmq.reply-to.g1h2AA.abc"),
        ):
            parent = self.load.task("probe.tasks.add", 1, 2)
            parent.link(callback)
            self.load.send(parent)
            self.injected.fails(parent.id)
        for options in (
            {"exchange": "amq.rabbitmq.trace", "routing_key": "any"},
            {"exchange": f"nobody-{self.queue}", "routing_key": "any"},
            {"queue": "amq.mine"},
            {"queue": f"nobody-{self.queue}"},
            {"reply_to": "amq.rabbitmq.reply-to"},
            {"queue": f"{self.queue}-kept", "reply_to": "amq.rabbitmq.reply-to"},
        ):
            parent = self.load.task("probe.tasks.add", 1, 2)
            callback = self.load.task("probe.tasks.echo").set(**options)
            parent.link(callback)
            self.load.send(parent)
            self.injected.ends.append(Expected(parent.id, "SUCCESS", 3))
            self.injected.fails(callback.id)
        return 10

    def alarm(self):
        """The broker blocks everybody who publishes, for a time."""
        alarm = "{resource_limit, memory, node()}"
        self.rabbitmq.ctl(
            "eval",
            f"rabbit_alarm:set_alarm({{{alarm}, []}}), timer:sleep(500), rabbit_alarm:clear_alarm({alarm}).",
        )
        return 1

    def catalog_race(self):
        """Tasks of a module that another worker has just taken."""
        self.races += 1
        name = f"race{self.races}.tasks"
        petiole("push", self.component, "--name", name, "--to", self.worker.http)
        for number in range(BURST):
            one = self.load.task(f"{name}.add", number, 1)
            self.load.send(one)
            self.injected.ends.append(Expected(one.id, "SUCCESS", number + 1))
        return 1

    def cut_from_the_broker(self):
        self.proxies["broker"].cut()
        return 1

    def cut_from_the_results(self):
        self.proxies["results"].cut()
        return 1


def kept_once(app, queue, expected):
    """Each message that is not run is kept, once."""
    quarantine, expected = Quarantine(app, f"{queue}-kept"), Counter(expected)
    kept = lambda: Counter(message.headers.get("id") for message in quarantine.messages)  # noqa: E731

    def all_kept():
        quarantine.take()
        return len(quarantine.messages) >= expected.total()

    wait_until(all_kept, lambda: f"all are kept, without {expected - kept()}")
    assert kept() == expected


@pytest.mark.timeout(300 + 2 * FAULTS)
def test_faults_without_a_crash(
    rabbitmq, app, queue, kind, redis_url, redis_client, start_worker, own_store, component
):
    tap = Tap(app, queue)
    options = ["--quarantine-queue", f"{queue}-kept"]
    first, second = (start_worker(queue, *options, broker=rabbitmq.url, store=own_store) for _ in range(2))
    with Announcements(redis_client) as announcements:
        with Load(app, pause=0.005) as load:
            injector = Injector(app, queue, load, rabbitmq=rabbitmq, worker=first, component=component("probe"))
            injector.run({
                Injector.refused: FAULTS // 20,
                Injector.unsendable: FAULTS // 20,
                Injector.alarm: max(FAULTS // 100, 2),
                Injector.catalog_race: max(FAULTS // 100, 2),
            })
        assert load.error is None, load.error
        stored = drain(redis_client, injector.expected(), second)
        first.check()
    twice = tap.twice()
    what = f"{', '.join(injector.counts)}; RabbitMQ {version_of(rabbitmq.unpacked)}, {kind} queue"
    judge(what, injector.counts.total(), injector.expected(), stored, announcements.states, twice, first, second)
    assert not twice
    kept_once(app, queue, injector.injected.kept)


@pytest.mark.timeout(300 + 2 * FAULTS)
def test_connections_are_cut(rabbitmq, app, queue, kind, redis_url, redis_client, start_worker):
    """They are cut in the middle of whatever they carry. Unconfirmed messages are sent again, with the same ids."""
    tap = Tap(app, queue)
    broker, broker_url = behind(rabbitmq.url)
    results, results_url = behind(redis_url)
    worker = start_worker(queue, broker=broker_url, results=results_url)
    with Announcements(redis_client) as announcements:
        with Load(app, pause=0.005) as load:
            injector = Injector(app, queue, load, proxies={"broker": broker, "results": results})
            injector.run({
                Injector.cut_from_the_broker: FAULTS // 10,
                Injector.cut_from_the_results: FAULTS // 10,
            })
        assert load.error is None, load.error
        stored = drain(redis_client, load.expected, worker)
        worker.wait_ready()
    assert "nothing came within" not in worker.log(), "nobody waits for the answer of a connection that is gone"
    twice = tap.twice()
    what = f"{', '.join(injector.counts)}; RabbitMQ {version_of(rabbitmq.unpacked)}, {kind} queue"
    judge(what, injector.counts.total(), load.expected, stored, announcements.states, twice, worker)


@pytest.mark.timeout(300 + 2 * FAULTS)
@pytest.mark.parametrize("kind", ["classic"])
def test_redis_fails_over(rabbitmq, queue, kind, tmp_path, start_worker):
    """A replica takes over; connections to the old primary stand, and are told READONLY."""
    servers = [Redis(tmp_path / name).start() for name in ("one", "two")]
    try:
        primary, replica = servers
        replica.replicate(primary)
        proxy, results_url = behind(primary.url)
        with producer(rabbitmq.url, None, queue) as app, Announcements(primary.client) as announcements:
            declare(app, queue)
            tap = Tap(app, queue)
            worker = start_worker(queue, broker=rabbitmq.url, results=results_url)
            with Load(app, pause=0.005) as load:
                for _ in range(max(FAULTS // 50, 2)):
                    load.goes_on(100)
                    primary.client.execute_command("FAILOVER", "TO", "127.0.0.1", replica.port)
                    wait_until(replica.is_primary, "the replica has taken over")
                    proxy.server = ("127.0.0.1", replica.port)
                    primary, replica = replica, primary
            assert load.error is None, load.error
            stored = drain(primary.client, load.expected, worker)
        twice = tap.twice()
        what = f"failover of Redis; RabbitMQ {version_of(rabbitmq.unpacked)}"
        judge(what, max(FAULTS // 50, 2), load.expected, stored, announcements.states, twice)
        assert not twice
    finally:
        for server in servers:
            server.stop()
