"""The Python side of the tests: an ordinary Celery app whose tasks record how they were called."""

import json
import os

import redis
from celery import Celery

app = Celery(
    "python_tasks",
    broker=os.environ["PYTHON_BROKER_URL"],
    backend=os.environ["PYTHON_RESULT_BACKEND"],
)
app.conf.update(
    task_default_queue=os.environ["PYTHON_QUEUE"],
    task_default_queue_type=os.environ["PYTHON_QUEUE_TYPE"],
    task_create_missing_queue_type=os.environ["PYTHON_QUEUE_TYPE"],
    task_routes={name: {"queue": os.environ["PYTHON_WASM_QUEUE"]} for name in ("my_app.*", "probe.*")},
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
record_of = redis.Redis.from_url(os.environ["PYTHON_RECORD_URL"])


def record(task, args):
    request = task.request
    call = {"task": task.name, "args": args, "id": request.id, "parent_id": request.parent_id}
    record_of.rpush(f"calls:{request.root_id}", json.dumps(call))


@app.task(bind=True, name="py.on_success")
def on_success(self, result):
    record(self, [result])
    return result


@app.task(bind=True, name="py.on_error")
def on_error(self, task_id):
    record(self, [task_id])


@app.task(bind=True, name="py.add")
def add(self, x, y):
    record(self, [x, y])
    return x + y


@app.task(bind=True, name="py.take")
def take(self, *args, **kwargs):
    """Records its arguments as Python shows them, and when it was to run."""
    record(self, [repr(args), repr(kwargs), self.request.eta, self.request.expires])
    return args


@app.task(bind=True, name="py.fail")
def fail(self, *args):
    record(self, list(args))
    raise ValueError("python has failed", *args)
