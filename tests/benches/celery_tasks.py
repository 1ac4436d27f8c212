"""The task of the benchmark in Python, for Celery's own worker."""

from celery import Celery

# The broker and the result backend come from the environment.
app = Celery("celery_tasks")


@app.task(name="probe.tasks.add")
def add(x, y):
    return x + y
