"""RabbitMQ as users run it: each version that is at hand, with classic and with quorum queues."""

import random
import re
import signal
import time
import uuid

import pytest

from conftest import UNPACKED, Quarantine, declare, length, open_site, petiole, producer, queue_type, version_of
from load import Announcements, Load, drain, judge
from servers import Rabbitmq
from tap import Tap
from test_kill import WORKER_KILLS, life
from waiting import wait_until

KILLS = max(WORKER_KILLS // 5, 10)
# RabbitMQ's own default since 4.0, which counts for quorum queues.
DELIVERY_LIMIT = 20


def test_the_scenario(folder, rabbitmq, redis_url, redis_client, store, kind):
    """Callbacks, errbacks, chains, retries and countdowns, between Wasm and Python."""
    with open_site(folder, "redis", rabbitmq.url, redis_url, redis_client, store, queues=kind) as site:
        s = site.task("probe.tasks.add", 1, 2)
        s.link(site.task("py.on_success"))
        result = s.apply_async()
        assert result.get(timeout=30) == 3
        assert [call["args"] for call in site.calls(result)] == [[3]]

        s = site.task("probe.tasks.fail", "it broke")
        s.link_error(site.task("py.on_error"))
        result = s.apply_async()
        assert [call["args"] for call in site.calls(result)] == [[result.id]]

        chain = site.task("probe.tasks.add", 1, 2) | site.task("py.add", 10) | site.task("probe.tasks.add", 100)
        assert chain.apply_async().get(timeout=30) == 113

        assert site.task("probe.tasks.retry_until", 2, countdown_ms=1000).apply_async().get(timeout=60) == 2
        start = time.monotonic()
        assert site.task("probe.tasks.add", 1, 2).apply_async(countdown=2).get(timeout=60) == 3
        assert time.monotonic() - start >= 2


def test_results_by_rpc(folder, rabbitmq, redis_url, redis_client, store, kind):
    with open_site(folder, "rpc", rabbitmq.url, redis_url, redis_client, store, queues=kind) as site:
        assert site.task("probe.tasks.add", 1, 2).apply_async().get(timeout=30) == 3


@pytest.mark.timeout(300 + 5 * KILLS)
def test_a_worker_that_is_killed_loses_nothing(
    rabbitmq, app, queue, kind, redis_url, redis_client, start_worker
):
    dice, tap = random.Random(), Tap(app, queue)
    with Announcements(redis_client) as announcements:
        worker = start_worker(queue, broker=rabbitmq.url)
        with Load(app, pause=0.005) as load:
            for _ in range(KILLS):
                time.sleep(life(dice))
                worker.check()
                worker.kill()
                worker.start()
        assert load.error is None, load.error
        stored = drain(redis_client, load.expected, worker)
    version = version_of(rabbitmq.unpacked)
    what = f"worker killed, RabbitMQ {version}, {kind} queue"
    judge(what, KILLS, load.expected, stored, announcements.states, tap.twice(), worker)


@pytest.mark.parametrize("kind", ["quorum"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT], ids=["killed", "cold"])
def test_a_crash_loop_takes_no_innocent_tasks_with_it(rabbitmq, app, queue, start_worker, number):
    """One task ends its worker each time that it runs, or its worker is told to give it back, and others are prefetched
    beside it: before the broker drops it, it is kept with a FAILURE, and the others run."""
    errback = app.signature("probe.tasks.echo").set(task_id=str(uuid.uuid4()))
    poison = app.signature("probe.tasks.sleep_ms", args=(600_000,), link_error=[errback]).apply_async()
    innocent = [app.signature("probe.tasks.sleep_ms", args=(50,)).apply_async() for _ in range(30)]
    options = ("--concurrency", "1", "--prefetch-multiplier", "64", "--quarantine-queue", f"{queue}-quarantine")
    worker = start_worker(queue, *options, broker=rabbitmq.url)
    runs = lambda: worker.log().count(f"{poison.id}] received")  # noqa: E731
    # A worker that ends between a message and its run costs one too.
    for round in range(DELIVERY_LIMIT + 1):
        what = lambda: f"it runs a {round + 1}th time\n{worker.log()[-3000:]}"  # noqa: B023, E731
        wait_until(lambda: runs() > round or poison.state == "FAILURE", what)  # noqa: B023
        if poison.state == "FAILURE":
            break
        worker.send_signal(number)
        worker.wait(30)
        worker.start()
    gives_back = poison.state != "FAILURE"
    if gives_back:
        # RabbitMQ 4.3 does not count what a worker gives back, and drops nothing of it.
        assert number == signal.SIGQUIT
        worker.kill()
        worker = start_worker(queue, *options, "--time-limit", "1", broker=rabbitmq.url)
    with pytest.raises(Exception) as raised:
        poison.get(timeout=60)
    assert type(raised.value).__name__ == ("TimeLimitExceeded" if gives_back else "WorkerLostError")
    assert app.AsyncResult(errback.id).get(timeout=60) == poison.id
    for one in innocent:
        assert one.get(timeout=60) == 50
    if gives_back:
        return
    kept = Quarantine(app, f"{queue}-quarantine").find(lambda one: one.headers["id"] == poison.id, "the message")
    assert f"given back {DELIVERY_LIMIT} times" in kept.headers["x-petiole-reason"]
    assert DELIVERY_LIMIT - 3 <= runs() <= DELIVERY_LIMIT


def test_a_queue_with_a_lower_limit_loses_no_message_where_the_worker_is_told(
    rabbitmq, redis_url, queue, start_worker
):
    """The setting `delivery_limit`, as no client can ask a queue for its own."""
    limit = 3
    with producer(rabbitmq.url, redis_url, queue, **queue_type("quorum")) as app:
        app.amqp.queues[queue].queue_arguments["x-delivery-limit"] = limit
        declare(app, queue)
        options = ("--concurrency", "1", "--quarantine-queue", f"{queue}-kept")
        env = {"PETIOLE_DELIVERY_LIMIT": str(limit)}
        worker = start_worker(queue, *options, broker=rabbitmq.url, env=env)
        poison = app.signature("probe.tasks.sleep_ms", args=(600_000,)).apply_async()
        runs = lambda: worker.log().count(f"{poison.id}] received")  # noqa: E731
        for run in range(limit):
            wait_until(lambda: runs() > run, worker.log)  # noqa: B023
            worker.kill()
            worker.start()
        with pytest.raises(Exception) as raised:
            poison.get(timeout=60)
        assert type(raised.value).__name__ == "WorkerLostError"
        kept = Quarantine(app, f"{queue}-kept").find(lambda one: one.headers["id"] == poison.id, "the message")
        assert f"given back {limit} times" in kept.headers["x-petiole-reason"]
        assert runs() == limit


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_a_shutdown_loses_nothing(rabbitmq, app, queue, start_worker, number):
    worker = start_worker(queue, "--concurrency", "2", broker=rabbitmq.url)
    results = [app.signature("probe.tasks.sleep_ms", args=(200,)).apply_async() for _ in range(20)]
    wait_until(lambda: "succeeded" in worker.log(), "tasks run")
    worker.send_signal(number)
    worker.wait(30)
    start_worker(queue, broker=rabbitmq.url)
    for one in results:
        assert one.get(timeout=60) == 200


def test_a_queue_that_is_deleted_is_consumed_again(rabbitmq, app, queue, start_worker):
    worker = start_worker(queue, broker=rabbitmq.url)
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete(queue)
    wait_until(lambda: "declaring it again" in worker.log(), lambda: f"the queue is back\n{worker.log()}")
    with producer(rabbitmq.url, app.conf.result_backend, queue, **queue_type("classic")) as again:
        assert again.signature("probe.tasks.add", args=(1, 2)).apply_async().get(timeout=60) == 3


def limited(rabbitmq, queue, *more):
    """The node's URL for a user with the permissions that docs/operations.md names, and these."""
    user, names = f"user-{uuid.uuid4()}", [queue, f"{queue}-kept", "celery_delayed_.*"]
    rabbitmq.ctl("add_user", user, "secret")
    permit(rabbitmq, user, names, [*names, *more], names)
    return rabbitmq.url.replace("guest:guest", f"{user}:secret")


def permit(rabbitmq, user, *names):
    """Sets the names that a user may configure, write and read."""
    rabbitmq.ctl("set_permissions", user, *("^(" + "|".join(some) + ")$" for some in names))


def test_least_permissions_are_enough_for_all_that_a_worker_does(rabbitmq, app, queue, start_worker):
    forbidden = f"{queue}-forbidden"
    declare(app, forbidden)
    options = ("--quarantine-queue", f"{queue}-kept")
    url = limited(rabbitmq, queue)
    worker = start_worker(queue, *options, broker=url)

    callback = app.signature("probe.tasks.add", args=(10,)).set(task_id=str(uuid.uuid4()))
    assert app.signature("probe.tasks.add", args=(1, 2), link=[callback]).apply_async().get(timeout=60) == 3
    assert app.AsyncResult(callback.id).get(timeout=60) == 13
    retries = app.signature("probe.tasks.retry_until", args=(2,), kwargs={"countdown_ms": 1000})
    assert retries.apply_async().get(timeout=60) == 2
    assert app.signature("probe.tasks.add", args=(1, 2)).apply_async(countdown=2).get(timeout=60) == 3

    quarantine = Quarantine(app, f"{queue}-kept")
    unknown = app.signature("probe.tasks.no_such_task").apply_async()
    refused = lambda: worker.log().count(f"[{unknown.id}] refused")  # noqa: E731
    wait_until(lambda: refused() == 1, worker.log)
    petiole("quarantine", "retry", unknown.id, "--broker", url, *options)
    wait_until(lambda: refused() == 2, worker.log)
    quarantine.find(lambda one: one.headers["id"] == unknown.id, "the unknown task")
    elsewhere = app.signature("probe.tasks.add", args=(10,)).set(task_id=str(uuid.uuid4()), queue=forbidden)
    assert app.signature("probe.tasks.add", args=(1, 2), link=[elsewhere]).apply_async().get(timeout=60) == 3
    kept = quarantine.find(lambda one: one.headers["id"] == elsewhere.id, "the callback")
    assert "403" in kept.headers["x-petiole-reason"], worker.log()
    with app.connection_for_write() as connection:
        assert connection.default_channel.queue_declare(forbidden, passive=True).message_count == 0


@pytest.mark.parametrize("kind", ["quorum"])
def test_what_can_not_be_kept_is_held(rabbitmq, app, queue, start_worker):
    """Somebody has taken the permission for the quarantine queue away: the message is not given back, which its queue
    would count, and is kept whole once there is one again; a worker that is told to stop does not wait for that."""
    url = limited(rabbitmq, queue)
    user = url.split("//")[1].split(":")[0]
    names = [queue, f"{queue}-kept", "celery_delayed_.*"]
    worker = start_worker(queue, "--quarantine-queue", f"{queue}-kept", broker=url)
    permit(rabbitmq, user, names, [queue], names)
    unknown = app.signature("probe.tasks.no_such_task", args=("x" * 10_000,)).apply_async()
    refused = lambda: re.search("does not take what it is given.*ACCESS_REFUSED", worker.log())  # noqa: E731
    wait_until(refused, worker.log)
    assert not worker.is_ready()
    assert app.signature("probe.tasks.add", args=(1, 2)).apply_async().get(timeout=60) == 3
    permit(rabbitmq, user, names, names, names)
    kept = Quarantine(app, f"{queue}-kept").find(lambda one: one.headers["id"] == unknown.id, "the unknown task")
    assert len(kept.body) > 10_000 and "x-delivery-count" not in kept.headers
    assert type(unknown.get(timeout=60, propagate=False)).__name__ == "NotRegistered"
    worker.wait_ready()
    permit(rabbitmq, user, names, [queue], names)
    for _ in range(20):
        app.signature("probe.tasks.no_such_task").apply_async()
    wait_until(lambda: not worker.is_ready(), worker.log)
    assert worker.stop(deadline=15) == 0, worker.log()[-3000:]
    wait_until(lambda: length(app, queue) == 20, "all are back")


@pytest.mark.parametrize("kind", ["classic"])
def test_a_permission_that_is_back_is_used(rabbitmq, app, queue, start_worker):
    """Callbacks for a queue that the user may not write to are kept; once it may, they go there, though it never may by the
    default exchange."""
    out, kept = f"{queue}-out", f"{queue}-kept"
    declare(app, out)
    url = limited(rabbitmq, queue)
    user = url.split("//")[1].split(":")[0]
    names = [queue, out, kept, "celery_delayed_.*"]
    permit(rabbitmq, user, names, names, names)
    start_worker(queue, "--route", f"out.*={out}", "--quarantine-queue", kept, broker=url)
    quarantine = Quarantine(app, kept)

    def call():
        callback = app.signature("out.next").set(task_id=str(uuid.uuid4()))
        assert app.signature("probe.tasks.add", args=(1, 2), link=[callback]).apply_async().get(timeout=60) == 3
        return callback.id

    permit(rabbitmq, user, names, [queue, kept, "celery_delayed_.*"], names)
    for _ in range(2):
        lost = call()
        message = quarantine.find(lambda one: one.headers["id"] == lost, "the callback")  # noqa: B023
        assert f"'{out}'" in message.headers["x-petiole-reason"], "the exchange that it needs"
    permit(rabbitmq, user, names, names, names)
    call()
    wait_until(lambda: length(app, out) == 1, "the callback is there")


def test_replies_need_one_permission_more(rabbitmq, queue, kind, start_worker):
    with producer(rabbitmq.url, "rpc://", queue, **queue_type(kind)) as app:
        declare(app, queue)
        url = limited(rabbitmq, queue, r"amq\.default")
        start_worker(queue, "--quarantine-queue", f"{queue}-kept", broker=url, results="rpc://")
        assert app.signature("probe.tasks.add", args=(1, 2)).apply_async().get(timeout=60) == 3


@pytest.fixture(scope="module", params=[None, *UNPACKED], ids=version_of)
def impatient(request, tmp_path_factory):
    """A node that lets a consumer hold a message for a second, and looks twice a second."""
    folder, ticks = tmp_path_factory.mktemp("impatient"), ["-rabbit", "channel_tick_interval", "500"]
    node = Rabbitmq(folder, request.param, ["consumer_timeout = 1000"], ticks).start()
    yield node
    node.stop()


def test_a_task_that_is_held_beyond_the_brokers_patience_runs_once(impatient, queue, kind, start_worker):
    with producer(impatient.url, "rpc://", queue, **queue_type(kind)) as app:
        declare(app, queue)
        worker = start_worker(queue, broker=impatient.url, results="rpc://")
        result = app.signature("probe.tasks.sleep_ms", args=(5_000,)).apply_async()
        assert result.get(timeout=60) == 5_000
        # One that runs behind it is taken after whatever came again.
        assert app.signature("probe.tasks.add", args=(1, 2)).apply_async().get(timeout=60) == 3
        worker.stop()
        assert worker.log().count(f"{result.id}] received") == 1, worker.log()
        with app.connection_for_write() as connection:
            left = connection.default_channel.queue_declare(queue, passive=True).message_count
        assert left == 0, worker.log()
