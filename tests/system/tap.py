"""A copy of every message that is published to a queue, to count those that were published twice."""

from collections import Counter

from kombu import Consumer, Queue


# The exchange where delayed messages come out, each under its queue's name and the bits of its delay.
DELAYED = "celery_delayed_delivery"


class Tap:
    """Bound beside the queue to the exchange that Celery and Petiole publish to it by, and to that of delayed messages."""

    def __init__(self, app, queue):
        self.app, self.published = app, Counter()
        exchange = app.amqp.queues[queue].exchange
        self.queue = Queue(f"{queue}-tap", exchange, queue)
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            self.queue(channel).declare()
            channel.exchange_declare(DELAYED, "topic", durable=True, auto_delete=False)
            channel.queue_bind(self.queue.name, DELAYED, f"#.{queue}")

    def read(self):
        """Takes all messages; returns the number of times that each run of a task was published so far."""
        with self.app.connection_for_read() as connection:
            channel = connection.default_channel
            queue = self.queue(channel)
            left = queue.queue_declare(passive=True).message_count
            got = []
            with Consumer(channel, [queue], on_message=got.append, no_ack=True):
                while len(got) < left:
                    connection.drain_events(timeout=30)
            self.published.update(map(run_of, got))
        return self.published

    def twice(self):
        """The runs that were published more than once, with the number of surplus messages."""
        return {run: times - 1 for run, times in self.read().items() if times > 1}


def run_of(message):
    """The key that tells a task's messages apart: a retry has the id of the first try."""
    headers = message.headers
    return headers.get("id"), headers.get("retries", 0), headers.get("x-petiole-requeues", 0)
