"""Messages that AMQP can't carry, by whichever way they come: refused or failed with the field and its limit, with no
effect on others."""

import http.client
import json
import re
import uuid

import amqp.exceptions
import pika
import pytest
from kombu import Queue

from conftest import Quarantine, declare, length, petiole, producer, publish
from load import Announcements, Load, drain, judge
from servers import Rabbitmq
from tap import Tap
from waiting import wait_until

MIB = 1024 * 1024
# Over a frame, over the ring buffer that frames are written to, and over that several times.
LARGE = (140_000, 4 * MIB + 1, 10_000_000)
HEADERS = re.compile(r"properties and headers have \d+ bytes, over the limit of \d+; the largest is \"(\w+)\" with \d+")


def smuggled(queue, size):
    """A text of this many bytes that is full of AMQP frames, each of which declares a queue."""
    declare = pika.spec.Queue.Declare(queue=queue, durable=False)
    # The last byte of a frame is none of ASCII: it begins a character of which another byte follows.
    frames = "".join(pika.frame.Method(n, declare).marshal()[:-1].decode() + "\u0380" for n in range(1, 9))
    part = frames + "x" * (64 * 1024 - len(frames.encode()))
    text = part * (size // len(part.encode()))
    return text + "x" * (size - len(text.encode()))


def is_there(app, queue):
    with app.connection_for_read() as connection:
        try:
            Queue(queue)(connection.default_channel).queue_declare(passive=True)
        except amqp.exceptions.NotFound:
            return False
        return True


class Client:
    """Of the HTTP API, with a token of the scope `send`."""

    def __init__(self, folder):
        made = json.loads(petiole("token", "--name", "send", "--scope", "send", "--json").stdout)
        self.token, self.config, self.port = made["token"], folder / "send.toml", None
        self.config.write_text(f'[[http.tokens]]\nname = "send"\nsha256 = "{made["sha256"]}"\nscopes = ["send"]\n')

    def send(self, signature):
        """Status and error of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/send", json.dumps(signature, ensure_ascii=False).encode(), headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()


def test_what_http_sends_is_refused_and_read_as_no_frames(tmp_path, amqp_url, own_redis, queue, start_worker):
    client, name = Client(tmp_path), f"{queue}-smuggled"
    with producer(amqp_url, None, queue) as app:
        declare(app, queue)
        tap = Tap(app, queue)
        worker = start_worker(queue, "--config", client.config, results=own_redis.url)
        client.port = worker.port
        call = {"task": "nobody.has.this"}
        calls = [("task_id", {**call, "options": {"task_id": "i" * 300}}, "has 300 bytes, over the limit of 255")]
        for size in LARGE:
            text = smuggled(name, size)
            calls += [
                ("shadow", {**call, "options": {"shadow": text}}, HEADERS),
                ("large", {**call, "options": {"headers": {"large": text}}}, HEADERS),
                ("task", {"task": text}, HEADERS),
            ]
        with Announcements(own_redis.client) as announcements:
            with Load(app, pause=0.005, retries=False) as load:
                for field, signature, says in calls:
                    load.goes_on(5)
                    status, text = client.send(signature)
                    found = re.search(says, json.loads(text)["error"])
                    assert (status, bool(found)) == (422, True), (field, text[:300])
                    assert not found.groups() or found[1] == field, text[:300]
                load.goes_on(20)
            assert load.error is None, load.error
            stored = drain(own_redis.client, load.expected, worker)
        twice = tap.twice()
        judge("what HTTP can't send", len(calls), load.expected, stored, announcements.states, twice, worker)
        assert not twice
        assert not is_there(app, name)
        assert "connection is lost" not in worker.log()


def is_empty(app, queue):
    with app.connection_for_read() as connection:
        return Queue(queue)(connection.default_channel).queue_declare(passive=True).message_count == 0


def test_a_retry_that_its_queue_can_not_delay_is_a_failure(amqp_url, redis_url, queue, start_worker):
    """Whoever waits for a task in RETRY whose message is kept would wait for ever."""
    long = queue.ljust(220, "q")
    with producer(amqp_url, redis_url, long) as app:
        declare(app, long)
        worker = start_worker(queue, queues=[long])
        result = app.signature("probe.tasks.retry_until", args=(2, 5000)).apply_async()
        with pytest.raises(Exception, match="can't be delayed: the name has 220 bytes, over the limit of 199"):
            result.get(timeout=30)
        assert result.state == "FAILURE"
        assert worker.stop() == 0
        assert is_empty(app, long)


@pytest.mark.parametrize("backend", ["redis", "rpc"])
def test_a_result_that_fits_no_message_is_a_failure(tmp_path, backend, amqp_url, redis_url, queue, start_worker):
    """The message is a callback, or a reply."""
    config = tmp_path / "results.toml"
    config.write_text('[limits]\nresult = "64MiB"\n')
    results = {"redis": redis_url, "rpc": "rpc://"}[backend]
    with producer(amqp_url, results, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, "--config", config, results=results)
        # only rpc:// has a message for a result that nobody is called with
        links = [app.signature("probe.tasks.echo")] if backend == "redis" else []
        result = app.signature("probe.tasks.large_result", args=(17 * MIB,), link=links).apply_async()
        says = f"a body of {17 * MIB // 1000}\\d+ bytes is over the limit of {16 * MIB}"
        with pytest.raises(Exception, match=says) as raised:
            result.get(timeout=60)
        assert type(raised.value).__name__ == "ResultTooLarge"
        assert worker.stop() == 0
        assert is_empty(app, queue)


def test_quarantine_keeps_and_shows_headers_that_nearly_fill_a_frame(rabbitmq, redis_url, queue, start_worker):
    """The headers that quarantine adds no longer fit beside them."""
    kept = f"{queue}-kept"
    with producer(rabbitmq.url, redis_url, queue) as app:
        declare(app, queue)
        worker = start_worker(queue, "--quarantine-queue", kept, broker=rabbitmq.url)
        headers = {"id": queue, "task": "nobody.has.this", "padding": "x" * 130_600}
        publish(app, queue, "[[], {}, {}]", headers=headers)
        result = app.AsyncResult(queue)
        with pytest.raises(Exception) as raised:
            result.get(timeout=30)
        assert type(raised.value).__name__ == "NotRegistered"
        options = ("--broker", rabbitmq.url, "--quarantine-queue", kept)
        listed = lambda: json.loads(petiole("quarantine", "list", "--json", *options).stdout)  # noqa: E731
        [entry] = wait_until(listed, lambda: f"the message is listed\n{worker.log()[-3000:]}")
        shown = json.loads(petiole("quarantine", "show", entry["id"], "--json", *options).stdout)
        assert shown["headers"]["padding"] == headers["padding"]
        assert "connection is lost" not in worker.log()


def test_what_the_broker_refuses_to_keep_is_cut(tmp_path, redis_url, queue, start_worker):
    """A callback over the broker's own limit, and so its copy for the quarantine queue."""
    kept = f"{queue}-kept"
    rabbitmq = Rabbitmq(tmp_path / "rabbitmq", settings=["max_message_size = 65536"]).start()
    try:
        with producer(rabbitmq.url, redis_url, queue) as app:
            declare(app, queue)
            worker = start_worker(queue, "--quarantine-queue", kept, broker=rabbitmq.url)
            link = app.signature("probe.tasks.echo", task_id=str(uuid.uuid4()))
            parent = app.signature("probe.tasks.large_result", args=(200_000,), link=[link]).apply_async()
            assert len(parent.get(timeout=30)) == 200_000
            with pytest.raises(Exception, match="larger than configured max size 65536"):
                app.AsyncResult(link.id).get(timeout=30)
            message = Quarantine(app, kept).find(lambda one: one.headers["id"] == link.id, "its beginning")
            assert len(message.body) == 4096 and "the broker refuses it whole" in message.headers["x-petiole-unreadable"]
            worker.check()
    finally:
        rabbitmq.stop()


def test_a_full_queue_is_tried_for_some_seconds(amqp_url, redis_url, queue, start_worker):
    """A fanout exchange of a queue that takes no more and one that takes all: the callback has failed, is kept, and has
    come where it could no more often than it was tried."""
    exchange, full, free = (f"{queue}-{what}" for what in ("fanout", "full", "free"))
    limits = {"x-max-length": 0, "x-overflow": "reject-publish"}
    with producer(amqp_url, redis_url, queue) as app, app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.exchange_declare(exchange, "fanout", durable=True, auto_delete=False)
        try:
            for name, arguments in ((full, limits), (free, {})):
                channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
                channel.queue_bind(name, exchange)
            start_worker(queue, "-c", "2", "--quarantine-queue", f"{queue}-quarantine")
            link = app.signature("out.next", exchange=exchange, routing_key="x").set(task_id=str(uuid.uuid4()))
            parent = app.signature("probe.tasks.add", (1, 2), link=[link]).apply_async()
            assert parent.get(timeout=30) == 3
            failed = app.AsyncResult(link.id)
            wait_until(lambda: failed.state == "FAILURE", "the callback has failed", deadline=60)
            assert type(failed.result).__name__ == "NotCarriedOut" and "is the queue full?" in str(failed.result)
            kept = Quarantine(app, f"{queue}-quarantine").find(lambda one: one.headers["id"] == link.id, "the callback")
            assert "is the queue full?" in kept.headers["x-petiole-reason"]
            count = channel.queue_declare(free, passive=True).message_count
            assert 1 < count <= 9
        finally:
            for name in (full, free):
                channel.queue_delete(name)
            channel.exchange_delete(exchange)


def test_a_quarantine_queue_that_is_full_is_told_of(amqp_url, redis_url, queue, start_worker):
    """It keeps one message, and the broker takes no other: that is held, and a worker that is told to stop does not wait."""
    kept = f"{queue}-kept"
    with producer(amqp_url, redis_url, queue) as app:
        declare(app, queue)
        app.amqp.queues[kept].queue_arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        declare(app, kept)
        worker = start_worker(queue, "--quarantine-queue", kept)
        for _ in range(5):
            app.signature("nobody.has.this").apply_async()
        wait_until(lambda: not worker.is_ready(), worker.log)
        assert "the quarantine queue does not take what it is given" in worker.log()
        assert app.signature("probe.tasks.add", args=(1, 2)).apply_async().get(timeout=30) == 3
        quarantine = Quarantine(app, kept)
        wait_until(lambda: quarantine.take() or len(quarantine.messages) >= 2, "there is room for a second")
        assert worker.stop(deadline=15) == 0, worker.log()[-3000:]
        wait_until(lambda: quarantine.take() or length(app, queue) == 5 - len(quarantine.messages), "the others are back")
