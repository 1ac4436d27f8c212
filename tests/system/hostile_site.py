"""A worker under attack: pushes and calls guests, and measures the worker."""

import http.client
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from hostile_servers import Canary, Granted
from neighbours import Neighbours
from servers import TOKEN, Worker, form
from waiting import wait_until

GUESTS = Path(__file__).parents[1] / "hostile"
# Sandboxes at once. Each keeps up to 4 x 128 KiB of memory and 8 x 64 KiB of tables mapped between two tasks.
SLOTS = 16
# Growth of RSS that may remain, in KiB: what the slots keep (16 MiB), and what the allocator may not have given back of
# a few megabytes of JSON.
RSS_TOLERANCE = 24 * 1024
# Growth of RSS over all cases together: a leak of a megabyte in each shows.
RSS_IN_ALL = 64 * 1024
# A connection to the HTTP API that is closing, to the result backend that was opened, a log file that is read. All cases
# together may add no more.
FD_TOLERANCE = 8
SETTLE = 15.0
SECRET = "the-secret-of-the-worker"
VICTIM = "hostile.victim"
NEIGHBOUR = "neighbour.tasks"

LINE = re.compile(r"\[(?!2026-01-01)\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: [A-Z]+/\w+\] |    |warning: |$")
UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass
class Upload:
    """A request to upload a component; `says` is a part of the answer, where it is not the same for all of a case."""

    body: object
    name: str | None = None
    manifest: bytes = b""
    says: str = ""


class HostileSite:
    """One worker for all attacks, with a stream of neighbours on its queue."""

    def __init__(self, folder, component, amqp_url, redis_url, grants, slots=SLOTS, env=None):
        self.folder, self.component, self.redis_url = Path(folder), component, redis_url
        self.queue = f"petiole-hostile-{uuid.uuid4().hex[:8]}"
        self.canary = Canary()
        self.granted = Granted(self.canary)
        self.lay_out_folders()
        config = self.folder / "hostile.toml"
        config.write_text(self.config(grants))
        self.worker = Worker(
            self.folder,
            name=self.queue,
            broker=amqp_url,
            results=redis_url,
            store=f"file://{self.folder}/hostile-modules",
            queues=[self.queue],
            options=["-c", str(slots), "--config", config, "--quarantine-queue", f"{self.queue}-quarantine"],
            env={"HOSTILE_SECRET": SECRET, "TMPDIR": self.folder / "tmp", **(env or {})},
        ).start()
        self.app = Celery("producer", broker=amqp_url, backend=redis_url, set_as_current=False)
        self.app.conf.update(task_default_queue=self.queue)
        self.neighbours = Neighbours(self.folder, amqp_url, redis_url, self.queue, f"{NEIGHBOUR}.add")
        self.log_offset, self.quiet = 0, []

    def start(self, neighbours=True):
        self.worker.wait_ready()
        status, text = self.push(NEIGHBOUR, self.component("probe").read_bytes())
        assert status == 201, text
        self.pid = self.worker.process.pid
        if not neighbours:
            return self
        self.neighbours.start()
        wait_until(lambda: self.neighbours.read() or len(self.neighbours.samples) > 100, "the neighbours run")
        return self

    def close(self):
        self.neighbours.kill()
        self.worker.kill()
        self.app.close()
        self.canary.close()
        self.granted.close()

    def lay_out_folders(self):
        """A folder to write to, with links that lead out of it, one to read, and the canary beside them."""
        box, shelf = self.folder / "granted" / "box", self.folder / "granted" / "shelf"
        for path in (box / "inner", shelf, self.folder / "tmp"):
            path.mkdir(parents=True)
        (self.folder / "granted" / "canary").write_text(SECRET)
        (shelf / "book").write_text("unread")
        (box / "way-out").symlink_to("..")
        (box / "file-out").symlink_to(self.folder / "granted" / "canary")
        os.mkfifo(box / "pipe")

    def config(self, grants):
        lines = [
            f'keyvalue = "{self.redis_url}"',
            "[http]",
            "rate = 100000",
            "[compile]",
            'time = 4\nmemory = "1GiB"',
            "[limits]",
            'memory = "16MiB"',
            "[env]",
            'GREETING = "hello"',
            "[secrets]",
            'HOSTILE_SECRET = { env = "HOSTILE_SECRET" }',
            "[folders]",
            f'box = "{self.folder}/granted/box"\nshelf = "{self.folder}/granted/shelf"',
        ]
        for name, grant in grants.items():
            lines += [f'[grants."hostile.{name}"]', self.filled(grant)]
        return "\n".join(lines) + "\n"

    def filled(self, text):
        return text.replace("GRANTED", str(self.granted.port)).replace("CANARY", str(self.canary.port))

    # uploads

    def request(self, method, path, body=None, headers=None):
        """Status and text of an answer; the API itself must have given one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.worker.port, timeout=60)
        headers = {"Authorization": f"Bearer {TOKEN}", **(headers or {})}
        try:
            connection.request(method, path, body=body, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except (BrokenPipeError, ConnectionResetError):
            # the server has answered before it has read all, and closed: its answer may be lost
            try:
                reply = connection.response_class(connection.sock, method=method)
                reply.begin()
                return reply.status, reply.read().decode()
            except (OSError, http.client.HTTPException):
                return 413, "the connection was closed"
        finally:
            connection.close()

    def made_by(self, script):
        """The names that a script in `tests/hostile` defines."""
        path, names = GUESTS / f"{script}.py", {}
        exec(compile(path.read_text(), str(path), "exec"), names)
        return names

    def uploads_of(self, script):
        """The uploads that a script in `tests/hostile/uploads` makes."""
        return self.made_by(f"uploads/{script}")["uploads"](lambda name: self.component(f"hostile/{name}").read_bytes())

    def publish(self, messages):
        """Sends messages with these headers to the worker, or with these headers and bodies, as no producer would."""
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            for message in messages:
                headers, body = message if isinstance(message, tuple) else (message, b"[[1, 2], {}, {}]")
                message = channel.prepare_message(
                    body,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers=headers,
                    properties={"delivery_mode": 1},
                )
                channel.basic_publish(message, exchange="", routing_key=self.queue)

    def petiole(self, *arguments):
        """Runs a command; returns stdout and stderr."""
        command = [os.environ["PETIOLE_BIN"], *arguments, "--to", self.worker.http]
        environment = {**os.environ, "PETIOLE_TOKEN": TOKEN}
        done = subprocess.run(command, env=environment, capture_output=True, cwd=self.folder, timeout=60, check=True)
        return done.stdout.decode() + done.stderr.decode()

    def push(self, name, body, manifest=b""):
        path = "/v1/modules/" + urllib.parse.quote(name, safe="")
        if not manifest or not isinstance(body, bytes):
            return self.request("POST", path, body, {"Content-Type": "application/wasm"})
        body, content_type = form(component=body, manifest=manifest)
        return self.request("POST", path, body, {"Content-Type": content_type})

    def remove(self, name):
        self.request("DELETE", f"/v1/modules/{urllib.parse.quote(name, safe='')}?force=true")

    # calls

    def arguments(self, args):
        """Puts the servers' ports into arguments."""
        if isinstance(args, str):
            return int(self.filled(args)) if args in ("GRANTED", "CANARY") else self.filled(args)
        return [self.arguments(one) for one in args] if isinstance(args, (list, tuple)) and len(args) < 100 else args

    def call(self, task, args):
        return self.app.signature(task, args=args).apply_async()

    def outcome(self, result):
        """(class, text) of the exception of a call; for a value its JSON, with the class `returned`."""
        try:
            value = result.get(timeout=30, propagate=False)
        except BaseException as raised:
            # Celery refuses to make the exception
            value = raised
        if isinstance(value, BaseException):
            # whatever catches `Exception` would end of it
            mark = "" if isinstance(value, Exception) else "BaseException "
            return mark + type(value).__name__, str(value)
        return "returned", json.dumps(value)

    # measures

    def status(self, key):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)[1])

    def rss(self):
        """In KiB."""
        return self.status("VmRSS")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def crashed(self):
        return self.worker.process.poll() is not None

    def new_log(self):
        """The lines that the worker has logged since the last time."""
        with self.worker.log_file.open("rb") as log:
            log.seek(self.log_offset)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.log_offset += len(whole)
        return whole.decode(errors="replace")

    def rest(self, seconds):
        """Leaves the neighbours alone for a time; returns their samples, and adds them to those of `quiet`."""
        start = time.monotonic()
        time.sleep(seconds)
        samples = self.neighbours.window(start, time.monotonic())
        self.quiet = [*self.quiet, *samples][-1000:]
        return samples

    def settled(self, rss, descriptors, tolerance=RSS_TOLERANCE):
        """RSS and descriptors once they are back to where they were, or what they are when they don't come back."""

        def back():
            return self.rss() <= rss + tolerance and self.descriptors() <= descriptors + FD_TOLERANCE

        end = time.monotonic() + SETTLE
        while not back() and time.monotonic() < end:
            time.sleep(0.05)
        return self.rss(), self.descriptors()


class Peak:
    """The largest RSS meanwhile, as far as looking every few milliseconds shows it."""

    def __init__(self, site):
        self.site, self.most, self.done = site, 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(0.02):
            try:
                self.most = max(self.most, self.site.rss())
            except (OSError, TypeError):
                return

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def forged(log):
    """Forgeries in the log: lines without the worker's beginning, and marks that move a cursor or turn text
    around."""
    found = [f"no line of the worker's: {line[:100]!r}" for line in log.splitlines() if not LINE.match(line)]
    return found + [f"raw {mark!r}" for mark in sorted(set(UNSAFE.findall(log)))]
