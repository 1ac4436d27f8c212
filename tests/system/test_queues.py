"""Queues as others have declared them, and either side first."""

import pytest
from kombu import Exchange, Queue

from conftest import declare, producer, queue_type
from servers import Rabbitmq


@pytest.fixture
def app(amqp_url, redis_url, queue):
    with producer(amqp_url, redis_url, queue) as app:
        yield app


def add(app, **options):
    return app.signature("probe.tasks.add", args=(1, 2)).apply_async(**options)


def test_the_producer_starts_first(app, queue, start_worker):
    result = add(app)
    start_worker(queue)
    assert result.get(timeout=30) == 3


def test_the_worker_starts_first(app, queue, start_worker):
    start_worker(queue)
    assert add(app).get(timeout=30) == 3


@pytest.mark.parametrize(
    "arguments",
    [{"x-max-priority": 10}, {"x-queue-type": "quorum"}, {"x-message-ttl": 3_600_000}],
    ids=["priorities", "quorum", "ttl"],
)
def test_a_queue_is_taken_as_it_is(app, queue, start_worker, arguments):
    declared = Queue(queue, Exchange(queue), queue, queue_arguments=arguments)
    app.conf.task_queues = [declared]
    with app.connection_for_write() as connection:
        declared(connection.default_channel).declare()
    first = add(app)
    start_worker(queue)
    assert first.get(timeout=30) == 3
    assert add(app, priority=5).get(timeout=30) == 3


def test_a_virtual_host_says_which_queues_are_declared(tmp_path, redis_url, queue, start_worker):
    """The producer declares a quorum queue, which a classic one would refuse."""
    rabbitmq = Rabbitmq(tmp_path / "rabbitmq").start()
    try:
        rabbitmq.ctl("add_vhost", "tasks", "--default-queue-type", "quorum")
        rabbitmq.ctl("set_permissions", "--vhost", "tasks", "guest", ".*", ".*", ".*")
        broker = rabbitmq.url.replace("/%2f", "/tasks")
        start_worker(queue, broker=broker)
        with producer(broker, redis_url, queue, **queue_type("quorum")) as app:
            declare(app, queue)
            assert add(app).get(timeout=30) == 3
    finally:
        rabbitmq.stop()


def test_priorities_count(app, queue, start_worker, redis_client):
    """With one slot and nothing prefetched beyond it, the urgent ones come first."""
    app.conf.task_queues = [Queue(queue, Exchange(queue), queue, queue_arguments={"x-max-priority": 10})]
    low = [app.signature("probe.tasks.sleep_ms", args=(50,)).apply_async(priority=1) for _ in range(10)]
    high = app.signature("probe.tasks.sleep_ms", args=(50,)).apply_async(priority=9)
    start_worker(queue, "--concurrency", "1", "--prefetch-multiplier", "1")
    high.get(timeout=30)
    for one in low:
        one.get(timeout=30)
    assert sum(one.date_done < high.date_done for one in low) <= 2


def test_several_queues_of_one_worker(app, queue, start_worker):
    start_worker(queue, queues=[queue, f"{queue}-second"])
    assert add(app).get(timeout=30) == 3
    assert add(app, queue=f"{queue}-second").get(timeout=30) == 3
