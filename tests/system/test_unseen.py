"""Modules that nobody wrote for Petiole, on the default policy: no manifest, no grants."""

import datetime
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import petiole, producer

UNSEEN = Path(__file__).parents[1] / "guests/unseen"


def rust(component, folder):
    return component("unseen")


def python(component, folder):
    file = folder / "python.wasm"
    command = [Path(sys.executable).with_name("componentize-py"), "--wit-path", UNSEEN / "unseen.wit"]
    command += ["--world", "unseen", "componentize", "--python-path", UNSEEN / "python", "app", "--output", file]
    build(command)
    return file


def javascript(component, folder):
    return UNSEEN / "javascript/unseen.wasm"


def c(component, folder):
    file = folder / "c.wasm"
    build(["sh", UNSEEN / "c/build.sh", file])
    return file


def build(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr


WORKS = {
    rust: {"hash map": "2", "sleep": "true", "environment": "0", "arguments": "0", "input": "0"},
    python: {
        "json": '{"a": [1, null, "\\u00e9"]}',
        "regular expression": "two one",
        "decimal": "0.3",
        "hash": "ba7816bf",
        "sqlite": "42",
        "sleep": "true",
        "environment": "0",
    },
    javascript: {
        "json": '{"a":[1,null,"é"]}',
        "regular expression": "two one",
        "map": "2",
        "sort": "1 2 3",
        "big integer": str(2**64),
        "clock": "true",
        "fetch": "undefined",
        "require": "undefined",
        "process": "undefined",
    },
    c: {"sort": "123", "square root": "42", "memory": "1", "environment": "0"},
}
FILES = {"read a file", "write a file", "list a folder"}
REFUSED = {
    rust: FILES | {"working folder", "thread", "process", "connect", "look up", "datagram"},
    python: FILES | {"thread", "process", "connect"},
    javascript: set(),
    c: FILES,
}


GIVES_UP = {
    rust: ("order A1 has no lines", "src/lib.rs:"),
    python: ("ValueError: order A1 has no lines", 'app.py", line '),
    javascript: ("order A1 has no lines", "unseen.js:"),
    c: ("order has no lines", "unseen.c: give_up: "),
}


@pytest.fixture(scope="session")
def built(component, tmp_path_factory):
    """The component of a language, built once."""
    folder = tmp_path_factory.mktemp("unseen")
    return functools.cache(lambda language: language(component, folder))


@pytest.mark.parametrize("language", [rust, python, javascript, c])
def test_what_nothing_caught_is_told(language, amqp_url, redis_url, queue, start_worker, built, tmp_path):
    worker = start_worker(queue, store=f"file://{tmp_path}/modules")
    petiole("push", built(language), "--name", "unseen", "--to", worker.http)
    with producer(amqp_url, redis_url, queue) as app:
        result = app.signature("unseen.give_up", args=("A1",)).delay()
        with pytest.raises(Exception) as raised:
            result.get(timeout=60)
        traceback = result.traceback

    message, place = GIVES_UP[language]
    assert type(raised.value).__name__ == "Panic"
    assert message in str(raised.value)
    assert place in traceback


@pytest.mark.parametrize("language", [rust, python, javascript, c])
def test_an_unseen_module_runs_without_grants(language, amqp_url, redis_url, queue, start_worker, built, tmp_path):
    worker = start_worker(queue, store=f"file://{tmp_path}/modules")
    petiole("push", built(language), "--name", "unseen", "--to", worker.http)
    with producer(amqp_url, redis_url, queue) as app:
        look_around = app.signature("unseen.look_around")
        seen, again = (dict(look_around.delay().get(timeout=60)) for _ in range(2))

    assert {what: seen[what] for what in WORKS[language]} == WORKS[language]
    assert seen["year"] == str(datetime.datetime.now(datetime.timezone.utc).year)
    assert {what for what, outcome in seen.items() if outcome.startswith("refused: ")} == REFUSED[language]
    assert "done" not in seen.values()
    if language is python:
        assert all(seen[what] != again[what] for what in ("random", "uuid"))
    if language is not javascript:
        assert "printed as an error" in worker.log()
