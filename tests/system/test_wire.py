"""Messages as Celery's own package writes them: compared with it, not with a recording."""

import json

import pytest
from kombu import Exchange, Queue

from conftest import petiole, producer
from waiting import wait_until

# Says who wrote the message.
BY_AUTHOR = {"origin", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "lang"}


def take(app, queue):
    """The next message of a queue, decoded, and its body."""
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        Queue(queue, Exchange(queue), queue)(channel).declare()
        message = wait_until(lambda: channel.basic_get(queue, no_ack=True), "a message")
        message = channel.message_to_python(message)
        return message, json.loads(message.body)


def same(ours, theirs, but=frozenset()):
    """Holds that two messages differ in nothing but ids and authors."""
    (ours, our_body), (theirs, their_body) = ours, theirs
    assert set(ours.headers) == set(theirs.headers)
    for name in set(theirs.headers) - BY_AUTHOR - but:
        assert ours.headers[name] == theirs.headers[name], name
    for name in BY_AUTHOR:
        assert type(ours.headers[name]) is type(theirs.headers[name]), name
    assert (ours.content_type, ours.content_encoding) == (theirs.content_type, theirs.content_encoding)
    assert ours.properties["delivery_mode"] == theirs.properties["delivery_mode"]
    assert ours.properties["correlation_id"] == ours.headers["id"]
    assert our_body == their_body


def test_petiole_send_writes_what_celery_writes(amqp_url, redis_url, queue):
    with producer(amqp_url, redis_url, queue) as app:
        s = app.signature("shop.order", args=(1, "two"), kwargs={"three": [3]})
        s.link(app.signature("shop.done"))
        s.link_error(app.signature("shop.failed"))
        s.apply_async(queue=queue)
        theirs = take(app, queue)
        call = ["send", "shop.order", "--args", '[1, "two"]', "--kwargs", '{"three": [3]}']
        call += ["--link", "shop.done", "--link-error", "shop.failed", "-Q", queue]
        petiole(*call, "--broker", amqp_url, "--results", redis_url)
        ours = take(app, queue)
    same(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"priority": 3}], ids=["plain", "priority"])
def test_a_callback_is_written_as_celerys_worker_writes_it(redis_site, outside, options):
    site, messages = redis_site, []
    for task, source in (("probe.tasks.add", site.queue), ("py.add", f"{site.queue}-python")):
        done = site.task("shop.done", "given", kept=True).set(queue=outside, **options)
        done.link(site.task("shop.after"))
        s = site.task(task, 1, 2)
        s.link(done)
        result = s.apply_async(queue=source)
        message, body = take(site.app, outside)
        assert message.headers["parent_id"] == message.headers["root_id"] == result.id
        messages.append((message, body))
    same(*messages)


def test_a_chain_goes_on_as_celerys_worker_sends_it_on(redis_site, outside):
    site, messages = redis_site, []
    for task, source in (("probe.tasks.add", site.queue), ("py.add", f"{site.queue}-python")):
        steps = [
            site.task("shop.second", 2).set(queue=outside, task_id="second"),
            site.task("shop.third").set(task_id="third"),
        ]
        (site.task(task, 1, 2).set(queue=source) | steps[0] | steps[1]).apply_async()
        messages.append(take(site.app, outside))
    for message, _ in messages:
        assert message.headers["id"] == "second"
        del message.properties["reply_to"]
    same(*messages)


def test_an_error_callback_is_written_as_celerys_worker_writes_it(redis_site, outside):
    site, messages = redis_site, []
    for task, source in (("probe.tasks.fail", site.queue), ("py.fail", f"{site.queue}-python")):
        s = site.task(task, "it broke")
        s.link_error(site.task("shop.failed").set(queue=outside))
        result = s.apply_async(queue=source)
        message, body = take(site.app, outside)
        assert body[0] == [result.id]
        messages.append((message, [[], *body[1:]]))
    # Celery sends error callbacks as a group, of which nobody hears.
    same(*messages, but={"group", "group_index"})
