"""The worker works under `docs/petiole.service`: as nobody, without privileges, with few system calls, with settings
that no other user can read."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import petiole, producer
from servers import HERE, TOKEN, Node

UNIT = HERE.parent.parent / "docs" / "petiole.service"
# The unit's score by `systemd-analyze security`, in tenths, at most; a service without any of it has 96.
MOST_EXPOSED = 20

PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


@pytest.fixture
def machine():
    """A root folder in which the unit's instructions have been followed, but for `petiole.toml`."""
    root = Path(tempfile.mkdtemp(prefix="petiole-machine-"))
    root.chmod(0o755)  # the worker's user has to get to its own folders
    (root / "usr/local/bin").mkdir(parents=True)
    yield root
    shutil.rmtree(root)


def install(root, settings):
    """Follows the unit's instructions, to folders below `root`."""
    files = {"petiole": os.environ["PETIOLE_BIN"], "petiole.toml": root / "petiole.toml"}
    files["petiole.toml"].write_text(settings)
    for line in UNIT.read_text().splitlines():
        words = line.removeprefix("#").split()
        if words[:1] == ["install"] and words[-2] in files:
            *command, file, to = words
            subprocess.run([*command, files[file], f"{root}{to}"], check=True)
    files["petiole.toml"].unlink()


def status(pid):
    """The fields of a process in /proc."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_a_worker_runs_under_the_unit(machine, amqp_url, redis_url, component, queue):
    # The unit puts nothing above petiole.toml.
    store = machine / "var/lib/petiole/own-store"
    install(
        machine,
        f"broker = '{amqp_url}'\nresults = '{redis_url}'\nqueues = ['{queue}']\ndefault_queue = '{queue}'\n"
        f"store = 'file://{store}'\n[http]\ntoken = '{TOKEN}'\n",
    )
    worker = Node(machine, "confined", [])
    worker.command = [sys.executable, HERE / "confined.py", UNIT, machine, *worker.command[1:]]
    worker.start()
    app = producer(amqp_url, redis_url, queue)
    try:
        worker.wait_ready()
        have = status(worker.process.pid)
        assert (have["NoNewPrivs"], have["Seccomp"]) == ("1", "2")
        assert int(have["CapEff"], 16) == int(have["CapPrm"], 16) == 0
        assert "0" not in have["Uid"].split()
        if os.geteuid() == 0 and subprocess.run(["unshare", "--user", "true"]).returncode == 0:
            assert len(Path(f"/proc/{worker.process.pid}/uid_map").read_text().splitlines()) == 2
        petiole("push", component("probe"), "--name", "probe.tasks", "--to", worker.http)
        assert app.send_task("probe.tasks.add", (2, 3)).get(timeout=60) == 5
        doomed = app.send_task("probe.tasks.spin", time_limit=1)
        with pytest.raises(Exception):
            doomed.get(timeout=60)
        assert app.send_task("probe.tasks.add", (3, 4)).get(timeout=60) == 7
        assert any(store.iterdir()) and any((machine / "var/cache/petiole").iterdir())
        worker.check()
    finally:
        worker.kill()
        app.close()


def test_no_other_user_can_read_the_settings(machine):
    install(machine, "broker = 'amqp://u:p@h'\n")
    assert (machine / "etc/petiole/petiole.toml").stat().st_mode & 0o077 == 0


def test_systemd_reads_the_unit(tmp_path):
    unit = tmp_path / UNIT.name
    # As if it were installed.
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/petiole", os.environ["PETIOLE_BIN"]))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_the_unit_sound():
    subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", UNIT],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_the_option_that_the_unit_leaves_out_can_not_be_on(component):
    """Compiled code is made executable when it is loaded: the unit says so, and why."""
    command = [os.environ["PETIOLE_BIN"], "run", component("probe"), "add", "--args", "[2, 3]"]
    run = lambda setup: subprocess.run(command, preexec_fn=setup, capture_output=True, text=True)  # noqa: E731
    assert run(None).stdout.strip() == "5"
    libc = ctypes.CDLL(None)
    if libc.prctl(PR_SET_MDWE, 0, 0, 0, 0) != 0 and libc.prctl(66, 0, 0, 0, 0) < 0:
        pytest.skip("a kernel before 6.3 has no such option")
    denied = run(lambda: libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0))
    assert denied.returncode != 0, denied.stdout
