"""An ordinary Celery producer: it knows the tasks by their names alone.

`cargo xtask demo --rabbitmq` runs it beside a Petiole worker.
"""

from celery import Celery

# The broker and the result backend come from CELERY_BROKER_URL and CELERY_RESULT_BACKEND.
app = Celery("my_app")
run_task = app.signature("my_app.tasks.run_task")
on_success_task = app.signature("my_app.tasks.on_success_task")
on_error_task = app.signature("my_app.tasks.on_error_task")


def call(*args):
    s = run_task.clone(args=args)
    s.link(on_success_task)
    s.link_error(on_error_task)
    result = s.apply_async()
    print(f">>> run_task{args!r}.apply_async()  # {result.id}")
    try:
        print(f">>> result.get()\n{result.get(timeout=60)!r}")
    except Exception as error:
        print(f">>> result.get()\n{type(error).__name__}: {error}")


call(1000)
call(20_000_000)
