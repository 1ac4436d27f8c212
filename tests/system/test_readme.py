"""Runs every command of the README, block by block, as a reader would type them."""

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from servers import Process, free_ports
from waiting import wait_until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# The command that this run is itself.
BY_OTHERS = {"cargo xtask test"}
# Commands that run until they are stopped.
SERVES = re.compile(r"^petiole (worker|dev)\b")
DEADLINE = 900


def commands(language, block):
    """In a console block the lines that start with `$ `; in a shell block all. A comment ends a command."""
    for line in block.replace("\\\n", " ").splitlines():
        if language == "console" and not line.startswith("$ "):
            continue
        command = re.sub(r"(^|\s+)#.*", "", line.removeprefix("$ ")).strip()
        if command:
            yield command


def blocks():
    found = re.findall(r"^```(console|sh|bash|shell)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [list(commands(language, block)) for language, block in found]


def test_the_two_commands_are_there():
    shown = [command for block in blocks() for command in block]
    assert "cargo xtask demo" in shown
    assert BY_OTHERS <= set(shown)


@pytest.fixture
def folder(tmp_path):
    """A folder for what the commands write, with what they read in the checkout."""
    for name in ("target", "tasks-wasm"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.timeout(1800)
def test_the_commands_of_the_readme(folder, amqp_url, redis_url):
    session = Session(folder, amqp_url, redis_url)
    try:
        for command in (command for block in blocks() for command in block):
            if command not in BY_OTHERS:
                session.type(command)
    finally:
        session.close()


def test_rabbitmq_in_the_demo():
    """The README mentions this option of the demo in passing."""
    run(["cargo", "xtask", "demo", "--rabbitmq"], ROOT, {})


class Session:
    """Terminals in one folder: variables stay from one command to the next, and a server runs beside them."""

    def __init__(self, folder, amqp_url, redis_url):
        [self.http] = free_ports(1)
        self.folder, self.state, self.server = folder, folder / "shell", None
        self.instead = [
            (r"amqp://[^\s'\"]*", amqp_url),
            (r"redis://[^\s'\"]*", redis_url),
            (r"(127\.0\.0\.1|localhost):8000", f"127.0.0.1:{self.http}"),
        ]
        path = [Path(os.environ["PETIOLE_BIN"]).parent, Path(sys.executable).parent, os.environ["PATH"]]
        self.env = {
            "PATH": os.pathsep.join(map(str, path)),
            "PETIOLE_HTTP": f"127.0.0.1:{self.http}",
            "PETIOLE_CACHE": str(folder / "cache"),
        }
        self.state.write_text(f"cd {shlex.quote(str(folder))}\n")

    def type(self, command):
        """Runs a command, on the nodes of this run instead of on the standard ports."""
        for pattern, replacement in self.instead:
            command = re.sub(pattern, replacement, command)
        if SERVES.match(command):
            self.serve(command)
        elif command.startswith("cargo "):
            run(["bash", "-c", command], ROOT, {})
        else:
            keep = f"{{ export -p; echo cd \"'$PWD'\"; }} > {self.state}"
            run(["bash", "-c", f". {self.state}; set -eo pipefail\n{command}\n{keep}"], self.folder, self.env)

    def serve(self, command):
        """Starts a worker in place of the one before, and waits until it is up."""
        self.close()
        script = f". {self.state}; exec {command}"
        self.server = Process(["bash", "-c", script], self.folder / "server.log", self.env).start()

        def is_ready():
            self.server.check()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=1):
                    return True
            except OSError:
                return False

        wait_until(is_ready, lambda: f"`{command}` is ready:\n{self.server.log()}", 120)

    def close(self):
        if self.server is not None:
            assert self.server.stop() == 0, self.server.log()
            self.server = None


def run(command, cwd, env):
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, f"{command[-1]!r} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
