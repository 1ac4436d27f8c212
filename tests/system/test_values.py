"""Values pass unchanged: what JSON can't hold exactly elsewhere reaches Python as it left it, through Wasm tasks."""

import json
import math
import urllib.request
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from conftest import petiole, producer
from servers import TOKEN
from test_wire import take

NAN, INF = float("nan"), float("inf")
VALUES = [
    2**64,
    -(2**63) - 1,
    10**30,
    7 * 10**400,
    NAN,
    INF,
    -INF,
    "\ud800",
    "a \\ \" \udfff",
    "\U0010ffff",
    "\U0010ffffNaN",
    {"\ud800": [NAN, {"\U0010ffff": -INF}]},
    datetime(2026, 11, 22, 12, tzinfo=timezone.utc),
    date(2026, 11, 22),
    Decimal("1.10"),
    UUID(int=1),
    b"\xff",
]
KEYWORDS = {"k": VALUES}


def taken(site, *args, **kwargs):
    return site.task("py.take", *args, **kwargs)


def took(call, *args, **kwargs):
    """True if it was called with these, compared as Python shows them: NaN is not equal to itself."""
    return call["args"][:2] == [repr(args), repr(kwargs)]


def test_a_success_callback_gets_its_own_arguments(site):
    s = site.task("probe.tasks.add", 1, 2)
    s.link(taken(site, *VALUES, **KEYWORDS))
    result = s.apply_async()
    [call] = site.calls(result)
    assert took(call, 3, *VALUES, **KEYWORDS), call


def test_an_error_callback_gets_its_own_arguments(site):
    s = site.task("probe.tasks.fail", "in vain")
    s.link_error(taken(site, *VALUES, **KEYWORDS))
    result = s.apply_async()
    [call] = site.calls(result)
    assert took(call, result.id, *VALUES, **KEYWORDS), call


def test_steps_of_a_chain_get_their_own_arguments(site):
    first = site.task("probe.tasks.add", 1, 2)
    chain = first | taken(site, *VALUES) | site.task("probe.tasks.add", 3, 4).set(immutable=True)
    chain |= taken(site, *VALUES, **KEYWORDS)
    result = chain.apply_async()
    calls = site.calls(result.parent.parent.parent, 2)
    assert took(calls[0], 3, *VALUES) and took(calls[1], 7, *VALUES, **KEYWORDS), calls


def test_numbers_are_as_they_were_written(redis_site):
    """Also numbers and strings that Python itself does not write."""
    site, task_id = redis_site, "2f0f14a4-9b8f-4a5b-8a7b-000000000001"
    values = '[-0, 1e999, -1E+400, "\\uDBFF\\uDFFF", "\\uD800"]'
    link = f'{{"task": "py.take", "args": {values}, "options": {{"queue": "{site.queue}-python"}}}}'
    site.redis.delete(f"calls:{task_id}")
    headers = {"lang": "py", "task": "probe.tasks.add", "id": task_id}
    site.publish(f'[[1, 2], {{}}, {{"callbacks": [{link}]}}]', headers=headers, correlation_id=task_id)
    result = site.app.AsyncResult(task_id)
    [call] = site.calls(result)
    assert took(call, 3, 0, INF, -INF, "\U0010ffff", "\ud800"), call


def test_a_stored_result_has_them(start_worker, queue, amqp_url, redis_url, redis_client):
    start_worker(queue, "--result-extended")
    with producer(amqp_url, redis_url, queue, result_extended=True) as app:
        result = app.send_task("probe.tasks.echo", args=[VALUES])
        with pytest.raises(TypeError):
            result.get(timeout=30)
        assert repr(result.args) == repr([VALUES])
        text = petiole("result", result.id, "--json", "--results", redis_url, check=False).stdout
        stored = redis_client.get(f"celery-task-meta-{result.id}")
        assert repr(json.loads(text)) == repr(json.loads(stored))
        result.forget()


SHAPE = {"colour": "red", "tags": None}


@pytest.mark.parametrize(
    ("width", "returned"),
    [
        (NAN, "NaN"),
        (-INF, "-Infinity"),
        (2**64, 2.0**64),
        (10**30, 1e30),
        (-(2**70), -(2.0**70)),
    ],
)
def test_a_float_parameter_takes_the_nearest(redis_site, width, returned):
    shape = {"rectangle": {"width": width, "height": 1}}
    result = redis_site.task("probe.tasks.typed", shape=shape, **SHAPE).apply_async()
    assert result.get(timeout=30)[0]["rectangle"]["width"] == returned


def test_a_text_is_taken_for_what_it_is(redis_site):
    for text in ("\U0010ffff", "\U0010ffffNaN", "\U0010ffff\"\U0010ffff\""):
        shape = {"label": text}
        result = redis_site.task("probe.tasks.typed", shape=shape, colour="red", tags=[text]).apply_async()
        assert result.get(timeout=30) == [shape, "red", [text]]
        with pytest.raises(Exception) as raised:
            redis_site.task("probe.tasks.fail_plainly", text).apply_async().get(timeout=30)
        assert raised.value.args == (text,)


@pytest.mark.parametrize(
    ("task", "args", "reason"),
    [
        (
            "add",
            [1, 2**64],
            "argument y: expected s64 (-9223372036854775808 to 9223372036854775807), got 18446744073709551616",
        ),
        ("add", [1, NAN], "argument y: expected s64, got NaN"),
        ("add", [1, "\ud800"], 'argument y: expected s64, got "\\ud800", which has a lone surrogate'),
        ("fail", ["\ud800"], 'argument message: expected string, got "\\ud800", which has a lone surrogate'),
        ("fail", [INF], "argument message: expected string, got Infinity"),
        ("echo", [{"a": [NAN]}], "argument value: expected JSON, got NaN, which is no JSON (RFC 8259)"),
        ("echo", [{"\udfff": 1}], 'argument value: expected JSON, got "\\udfff", which has a lone surrogate'),
        ("free_form", [[INF]], "argument args[0]: expected JSON, got Infinity, which is no JSON (RFC 8259)"),
    ],
)
def test_what_a_parameter_does_not_take_is_said_and_errbacks_are_called(redis_site, task, args, reason):
    s = redis_site.task(f"probe.tasks.{task}", *args)
    s.link_error(taken(redis_site, *VALUES))
    result = s.apply_async()
    with pytest.raises(TypeError) as raised:
        result.get(timeout=30)
    assert str(raised.value) == f"probe.tasks.{task}: {reason}"
    [call] = redis_site.calls(result)
    assert took(call, result.id, *VALUES), call


PAST = datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
FUTURE = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("options", "eta", "expires"),
    [
        ({"eta": PAST}, PAST, None),
        ({"eta": PAST.replace(tzinfo=None)}, PAST.replace(tzinfo=timezone.utc), None),
        ({"eta": date(2020, 1, 2)}, datetime(2020, 1, 2, tzinfo=timezone.utc), None),
        ({"expires": FUTURE}, None, FUTURE.replace(tzinfo=timezone.utc)),
        ({"countdown": Decimal("0.0"), "expires": PAST}, None, PAST),
    ],
)
def test_times_of_a_callback_are_read_as_celery_reads_them(redis_site, outside, options, eta, expires):
    def time(text):
        time = text and datetime.fromisoformat(text)
        return time and (time if time.tzinfo else time.replace(tzinfo=timezone.utc))

    site = redis_site
    for task, source in (("probe.tasks.add", site.queue), ("py.add", f"{site.queue}-python")):
        # A message of Celery's that has expired is dropped by the broker.
        if task == "py.add" and expires == PAST:
            continue
        s = site.task(task, 1, 2)
        s.link(site.task("shop.done").set(queue=outside, **options))
        s.apply_async(queue=source)
        message, _ = take(site.app, outside)
        assert (time(message.headers["eta"]), time(message.headers["expires"])) == (eta, expires), task


def test_times_of_a_later_step_are_kept(redis_site):
    site = redis_site
    eta, expires = PAST, datetime.now(timezone.utc) + timedelta(hours=1)
    last = taken(site, eta).set(eta=eta, expires=expires, countdown=Decimal(0))
    chain = site.task("probe.tasks.add", 1, 2) | site.task("probe.tasks.add", 4) | last
    result = chain.apply_async()
    [call] = site.calls(result.parent.parent)
    assert took(call, 7, eta), call
    assert [datetime.fromisoformat(time) for time in call["args"][2:]] == [eta, expires]


def test_a_countdown_that_celery_can_not_carry_out_is_refused(redis_site):
    s = redis_site.task("probe.tasks.add", 1, 2)
    s.link(taken(redis_site).set(countdown=Decimal(5)))
    s.link_error(taken(redis_site, *VALUES))
    result = s.apply_async()
    with pytest.raises(Exception) as raised:
        result.get(timeout=30)
    assert 'option `countdown` of "py.take" is kombu\'s "decimal"' in str(raised.value)
    [call] = redis_site.calls(result)
    assert took(call, result.id, *VALUES), call


def test_what_is_sent_from_elsewhere(redis_site, amqp_url, redis_url):
    site, queue = redis_site, f"{redis_site.queue}-python"
    args = '[NaN, -Infinity, 18446744073709551616, -0, "\\ud800"]'
    expected = (NAN, -INF, 2**64, 0, "\ud800")
    servers = ["--broker", amqp_url, "--results", redis_url]
    sent = petiole("send", "py.take", "--args", args, "-Q", queue, "--json", *servers)
    [call] = site.calls(site.app.AsyncResult(json.loads(sent.stdout)["task_id"]))
    assert took(call, *expected)

    body = f'{{"task": "py.take", "args": {args}, "options": {{"queue": "{queue}"}}}}'
    result = site.app.AsyncResult(ask(site, "/v1/send", body)["task_id"])
    [call] = site.calls(result)
    assert took(call, *expected)
    # The Python task gives them back.
    assert math.isnan(result.get(timeout=30)[0])
    assert repr(ask(site, f"/v1/results/{result.id}")["result"]) == repr(list(expected))


def ask(site, path, body=None):
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{site.worker.http}{path}", body and body.encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())
