"""Waiting for a condition instead of for a time."""

import time

DEADLINE = 30.0


def wait_until(condition, what, deadline=DEADLINE, poll=0.02):
    """The first true value of `condition()`; fails with `what` when there is none in `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not in {deadline:g} s: {what() if callable(what) else what}")
        time.sleep(poll)
