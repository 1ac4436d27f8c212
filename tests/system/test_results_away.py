"""A result backend that refuses, or is away: it is reported, and so is its return."""

import os
import signal
import uuid

import pytest

from conftest import Quarantine, declare, ended, petiole, producer
from load import Announcements, drain, judge
from oracle import Expected
from proxy import behind
from servers import free_ports
from waiting import wait_until

TASKS = 200
BEGINS, ENDS = "the result backend does not take what it is given", "the result backend takes what it is given again"


class Closed:
    """Connections are refused."""

    def __init__(self, server):
        self.proxy, self.url = behind(server.url)
        self.there = self.proxy.server

    def begin(self):
        self.proxy.server = ("127.0.0.1", *free_ports(1))
        self.proxy.cut()

    def end(self):
        self.proxy.server = self.there


class Stopped:
    """The server takes what it is sent, and says nothing."""

    def __init__(self, server):
        self.pid, self.url = server.client.info("server")["process_id"], server.url

    def begin(self):
        os.kill(self.pid, signal.SIGSTOP)

    def end(self):
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture(params=[Closed, Stopped], ids=["closed", "stopped"])
def outage(request, own_redis):
    return request.param(own_redis)


def test_a_user_who_loses_the_right_to_scripts_is_told_so(own_redis, amqp_url, queue, start_worker):
    """The end of a task that runs then can't be stored: its message is kept with Redis's own words. No other task is
    begun until the right is back, though all questions are answered."""
    acl = own_redis.client.acl_setuser
    acl("worker", True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all"])
    results = own_redis.url.replace("redis://", "redis://worker:secret@")
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, "--quarantine-queue", f"{queue}-kept", results=results)
        acl("worker", commands=["+@all", "-evalsha", "-eval"])
        add = app.signature("probe.tasks.add", args=(1, 2))
        first = add.apply_async()
        quarantine = Quarantine(app, f"{queue}-kept")
        kept = quarantine.find(lambda kept: kept.headers["id"] == first.id, f"the message of {first.id}")
        assert "this user has no permissions to run the 'evalsha' command" in kept.headers["x-petiole-reason"]
        wait_until(lambda: not worker.is_ready(), worker.log)
        own_redis.client.acl_log_reset()
        others = [add.apply_async() for _ in range(10)]
        denied = lambda: sum(entry["count"] for entry in own_redis.client.acl_log())  # noqa: E731
        wait_until(lambda: denied() >= len(others), "each has tried whether it may")
        quarantine.take()
        assert [one.headers["id"] for one in quarantine.messages] == [first.id]
        acl("worker", commands=["+@all"])
        for one in others:
            assert ended(own_redis.client, one.id)["result"] == 3
            assert worker.log().count(f"[{one.id}] received") == 1
        worker.wait_ready()
        assert worker.log().count(f"[{first.id}] received") == 1


@pytest.mark.parametrize("lost", ["getrange", "setex", "publish", "channel"])
def test_a_right_that_is_lost_amid_a_commit_is_waited_for(lost, own_redis, amqp_url, queue, start_worker):
    """The script fails halfway, and Redis takes nothing back: what it did is done again once the right is back, and whoever
    waits is woken."""
    acl, denials = own_redis.client.acl_setuser, own_redis.client.acl_log
    acl("worker", True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all"])
    results = own_redis.url.replace("redis://", "redis://worker:secret@")
    with producer(amqp_url, own_redis.url, queue) as app, Announcements(own_redis.client) as announcements:
        declare(app, queue)
        worker = start_worker(queue, "--quarantine-queue", f"{queue}-kept", results=results)
        link = app.signature("probe.tasks.add", args=(10,)).set(task_id=str(uuid.uuid4()))
        one = app.signature("probe.tasks.sleep_ms", args=(300,), link=[link]).apply_async()
        wait_until(lambda: f"[{one.id}] received" in worker.log(), worker.log)
        if lost == "channel":
            acl("worker", reset_channels=True)
        else:
            acl("worker", commands=["+@all", f"-{lost}"])
        wait_until(lambda: sum(denial["count"] for denial in denials()) >= 5, "it is tried again and again")
        assert not worker.is_ready()
        other = app.signature("probe.tasks.add", args=(1, 2)).apply_async()
        acl("worker", channels=["*"], commands=["+@all"])
        assert one.get(timeout=30) == 300
        assert app.AsyncResult(link.id).get(timeout=30) == 310
        assert other.get(timeout=30) == 3
        worker.wait_ready()
        for task in (one, other):
            assert worker.log().count(f"[{task.id}] received") == 1
        quarantine = Quarantine(app, f"{queue}-kept")
        quarantine.take()
        assert quarantine.messages == []
    assert announcements.states.count((one.id, "SUCCESS")) == 1


def test_a_worker_without_its_results_is_not_ready(own_redis, outage, amqp_url, queue, start_worker):
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, results=outage.url)
        first = app.signature("probe.tasks.sleep_ms", args=(500,)).apply_async()
        wait_until(lambda: f"[{first.id}] received" in worker.log(), worker.log)
        outage.begin()
        try:
            wait_until(lambda: not worker.is_ready(), lambda: f"it is not ready\n{worker.log()[-3000:]}")
        finally:
            outage.end()
        worker.wait_ready()
        assert ended(own_redis.client, first.id)["result"] == 500


def test_a_shutdown_ends_while_results_are_away(own_redis, outage, amqp_url, queue, start_worker):
    """One task has ended, the others wait to be asked about."""
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, "-c", "1", "--soft-shutdown-timeout", "2", results=outage.url)
        sent = [app.signature("probe.tasks.sleep_ms", args=(500,)).apply_async() for _ in range(5)]
        wait_until(lambda: f"[{sent[0].id}] received" in worker.log(), worker.log)
        outage.begin()
        try:
            wait_until(lambda: not worker.is_ready(), worker.log)
            assert worker.stop(deadline=30) == 0, worker.log()[-3000:]
        finally:
            outage.end()
        start_worker(queue, results=outage.url)
        for one in sent:
            assert ended(own_redis.client, one.id)["result"] == 500


def test_an_outage_is_told_once_and_so_is_its_end(own_redis, outage, amqp_url, queue, start_worker):
    with producer(amqp_url, None, queue) as app, Announcements(own_redis.client) as announcements:
        declare(app, queue)
        worker = start_worker(queue, "--concurrency", "8", results=outage.url)
        sent = [app.signature("probe.tasks.sleep_ms", args=(100,)).apply_async() for _ in range(TASKS)]
        wait_until(lambda: "succeeded" in worker.log(), worker.log)
        outage.begin()
        wait_until(lambda: BEGINS in worker.log(), worker.log)
        outage.end()
        expected = [Expected(one.id, "SUCCESS", 100) for one in sent]
        stored = drain(own_redis.client, expected, worker)
    judge("an outage of the results", 1, expected, stored, announcements.states, {}, worker)
    log = worker.log()
    assert (log.count(BEGINS), log.count(ENDS)) == (1, 1), log[-3000:]


def test_a_results_file_that_is_deleted_is_told(tmp_path, amqp_url, queue, start_worker):
    results = tmp_path / "results.db"
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, results=f"sqlite://{results}")
        results.rename(tmp_path / "aside.db")
        sent = app.signature("probe.tasks.add", args=(1, 2)).apply_async()
        said = lambda: BEGINS in worker.log() and "was deleted or replaced" in worker.log()  # noqa: E731
        wait_until(said, worker.log)
        assert not worker.is_ready()
        (tmp_path / "aside.db").rename(results)
        worker.wait_ready()
        assert ENDS in worker.log()
        shown = petiole("result", sent.id, "--wait", "--results", f"sqlite://{results}")
        assert shown.stdout == "3\n"


def test_what_others_put_in_the_way_of_a_run_is_told(own_redis, amqp_url, queue, start_worker):
    """Under the key of its record, as text or of another type: the message is kept, and whoever waits hears."""
    with producer(amqp_url, own_redis.url, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, "-c", "2", "--quarantine-queue", f"{queue}-kept", results=own_redis.url)
        sent = [app.signature("probe.tasks.add", args=(1, 2)).set(task_id=str(uuid.uuid4())) for _ in range(6)]
        for number, one in enumerate(sent):
            key = f"petiole-run-0-0-0-0-{len(queue)}-{queue}-{one.id}"
            _ = own_redis.client.set(key, "no record") if number % 2 else own_redis.client.lpush(key, "no record")
            one.apply_async()
        for one in sent:
            assert ended(own_redis.client, one.id)["result"]["exc_type"] == "NotCarriedOut"
        assert app.signature("probe.tasks.add", args=(1, 2)).apply_async().get(timeout=30) == 3
        quarantine = Quarantine(app, f"{queue}-kept")
        for one in sent:
            quarantine.find(lambda kept: kept.headers["id"] == one.id, f"the message of {one.id}")  # noqa: B023
        worker.check()
