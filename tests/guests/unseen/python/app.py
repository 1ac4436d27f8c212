"""A module that nobody wrote for Petiole: Python's standard library."""

import datetime
import decimal
import encodings.idna  # which socket imports as late as that there is no file to import it from
import hashlib
import json
import os
import random
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid

from wit_world import WitWorld as World


def outcome(action):
    try:
        action()
    except Exception as error:
        return f"refused: {error!r}"
    return "done"


def query():
    database = sqlite3.connect(":memory:")
    database.execute("create table numbers (number integer)")
    database.executemany("insert into numbers values (?)", [(1,), (2,), (39,)])
    [[total]] = database.execute("select sum(number) from numbers")
    return total


def slept(seconds):
    start = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - start >= seconds


class WitWorld(World):
    def look_around(self):
        print("printed\nin two lines")
        print("printed as an error", file=sys.stderr)
        return [
            ("json", json.dumps(json.loads('{"a": [1, null, "\\u00e9"]}'))),
            ("regular expression", re.sub(r"(\w+) (\w+)", r"\2 \1", "one two")),
            ("decimal", str(decimal.Decimal("0.1") + decimal.Decimal("0.2"))),
            ("hash", hashlib.sha256(b"abc").hexdigest()[:8]),
            ("sqlite", str(query())),
            ("year", str(datetime.datetime.now(datetime.timezone.utc).year)),
            ("sleep", str(slept(0.005)).lower()),
            ("random", str(random.SystemRandom().getrandbits(64))),
            ("uuid", str(uuid.uuid4())),
            ("environment", str(len(os.environ))),
            ("read a file", outcome(lambda: open("/etc/passwd"))),
            ("write a file", outcome(lambda: open("/tmp/file", "w"))),
            ("list a folder", outcome(lambda: os.listdir("/"))),
            ("thread", outcome(lambda: threading.Thread(target=print).start())),
            ("process", outcome(lambda: subprocess.run(["/bin/ls"]))),
            ("connect", outcome(lambda: socket.create_connection(("127.0.0.1", 80)))),
        ]

    def give_up(self, order):
        raise ValueError(f"order {order} has no lines")
