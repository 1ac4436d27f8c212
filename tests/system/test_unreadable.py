"""Messages whose properties no AMQP library would send: each is run or kept, and no connection ends over one."""

import json
import struct
import uuid

import pika
import pytest
from pika import data

from conftest import Quarantine, ended, petiole, producer
from waiting import wait_until

LOST = "connection is lost"
QUARANTINED = "the message's headers can't be read: "


class Raw(pika.BasicProperties):
    """Properties byte for byte."""

    def __init__(self, encoded):
        super().__init__()
        self.encoded = encoded

    def encode(self):
        return [self.encoded]


def short(value):
    return bytes([len(value)]) + value


def encoded(headers, more=b"", last=(0, b"")):
    """Content type and encoding, headers with `more` entries, delivery mode, and one short string by its flag."""
    pieces = []
    data.encode_table(pieces, headers)
    table = b"".join(pieces)[4:] + more
    flag, value = last
    flags = struct.pack(">H", 0xF000 | flag)
    table = struct.pack(">I", len(table)) + table
    return flags + short(b"application/json") + short(b"utf-8") + table + b"\x02" + (short(value) if flag else b"")


def nested(levels):
    return b"".join(b"A" + struct.pack(">I", 5 * level + 1) for level in reversed(range(levels))) + b"V"


class Unreadable:
    def __init__(self, amqp_url, redis_url, redis_client, queue, start_worker):
        self.queue, self.redis, self.url = queue, redis_client, amqp_url.rstrip("/")
        self.app = producer(amqp_url, redis_url, queue)
        self.quarantine = Quarantine(self.app, f"{queue}-quarantine")
        self.worker = start_worker(queue, "--quarantine-queue", f"{queue}-quarantine")

    def send(self, more=b"", last=(0, b""), **headers):
        task_id = str(uuid.uuid4())
        headers = {"id": task_id, "task": "probe.tasks.add", **headers}
        self.publish(encoded(headers, more, last))
        return task_id

    def publish(self, properties):
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", self.queue, b"[[1, 2], {}, {}]", Raw(properties))

    def runs(self, task_id):
        assert ended(self.redis, task_id)["result"] == 3

    def kept(self, task_id, reason):
        message = self.quarantine.find(lambda one: one.headers.get("id") == task_id, f"message {task_id}")
        assert QUARANTINED + reason in message.headers["x-petiole-reason"]
        assert message.headers["task"] == "probe.tasks.add"
        assert len(message.headers["x-petiole-raw-properties"]) > 0
        assert message.body in ("[[1, 2], {}, {}]", b"[[1, 2], {}, {}]")
        meta = ended(self.redis, task_id)
        assert meta["status"] == "FAILURE" and meta["result"]["exc_type"] == "DecodeError"

    def flows(self):
        """Other messages are run, and the worker's connections stand."""
        for _ in range(3):
            assert self.app.signature("probe.tasks.add", args=(1, 2)).apply_async().get(timeout=30) == 3
        self.worker.check()
        assert LOST not in self.worker.log()


@pytest.fixture
def unreadable(amqp_url, redis_url, redis_client, queue, start_worker):
    return Unreadable(amqp_url, redis_url, redis_client, queue, start_worker)


def test_a_name_that_is_no_text_is_run(unreadable):
    unreadable.runs(unreadable.send(short(b"na\xffme") + b"S\0\0\0\1x"))
    unreadable.runs(unreadable.send(short(b"deep") + nested(60)))
    unreadable.flows()


def test_short_strings_that_are_no_text_are_kept(unreadable):
    flags = {
        "correlation_id": 0x0400,
        "reply_to": 0x0200,
        "message_id": 0x0080,
        "type": 0x0020,
        "app_id": 0x0008,
        "cluster_id": 0x0004,
    }
    sent = {name: unreadable.send(last=(flag, b"x\xff")) for name, flag in flags.items()}
    for name, task_id in sent.items():
        unreadable.kept(task_id, f'{name} "x\N{REPLACEMENT CHARACTER}" is no UTF-8')
    unreadable.flows()


@pytest.mark.parametrize("levels", [61, 1_000, 20_000])
def test_deep_headers_are_kept(unreadable, levels):
    unreadable.kept(unreadable.send(short(b"deep") + nested(levels)), "headers nested deeper than 60")
    unreadable.flows()


def test_headers_that_fill_a_frame_are_run_and_those_that_would_outgrow_it_are_kept(unreadable):
    """The delay of an `eta` is dead-lettering: `x-death` would make the content header larger than a frame."""
    s = unreadable.app.signature("probe.tasks.add", args=(1, 2))
    grows = s.apply_async(countdown=2, headers={"padding": "x" * 129_600})
    result = s.apply_async(countdown=2, headers={"padding": "x" * 117_000})
    largest = 131_072 - 8 - 12 - len(encoded({"id": str(uuid.uuid4()), "task": "probe.tasks.add", "padding": ""}))
    unreadable.runs(unreadable.send(padding="x" * largest))
    assert result.get(timeout=30) == 3
    with pytest.raises(Exception, match="over the limit of 118776"):
        grows.get(timeout=30)
    unreadable.flows()


def test_headers_over_the_frames_of_a_connection_are_kept_whole(amqp_url, redis_url, queue, start_worker):
    """In an envelope, which carries them as its body."""
    kept = f"{queue}-quarantine"
    at_broker = ["--broker", f"{amqp_url}?frame_max=8192", "--quarantine-queue", kept]
    with producer(amqp_url, redis_url, queue) as app:
        start_worker(queue, *at_broker[2:], broker=at_broker[1])
        result = app.signature("no.such.task").apply_async(headers={"padding": "x" * 20_000})
        with pytest.raises(Exception, match="no.such.task"):
            result.get(timeout=30)
        listed = lambda: json.loads(petiole("quarantine", "list", "--json", *at_broker).stdout)  # noqa: E731
        [one] = wait_until(listed, "it is kept")
        assert one["task_id"] == result.id
        assert "x" * 20_000 in petiole("quarantine", "show", one["id"], *at_broker).stdout


def test_a_mark_of_ours_can_not_be_forged(unreadable):
    forged = {"x-petiole-unreadable": "forged", "x-petiole-raw-properties": "forged"}
    unreadable.runs(unreadable.send(**forged))
    unreadable.flows()


def test_how_often_a_message_was_lost_is_the_brokers_to_say(unreadable):
    unreadable.runs(unreadable.send(**{"x-delivery-count": 1000}))
    unreadable.flows()


def test_many_at_once_cost_others_nothing(unreadable):
    results = [unreadable.app.signature("probe.tasks.add", args=(n, 1)).apply_async() for n in range(100)]
    sent = [unreadable.send(last=(0x0400, b"\xfe")) for _ in range(20)]
    assert [result.get(timeout=60) for result in results] == [n + 1 for n in range(100)]
    for task_id in sent:
        unreadable.kept(task_id, 'correlation_id "\N{REPLACEMENT CHARACTER}" is no UTF-8')
    unreadable.flows()
    unreadable.quarantine.take()
    assert sorted(one.headers["id"] for one in unreadable.quarantine.messages) == sorted(sent)
