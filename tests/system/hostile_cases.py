"""The cases of the hostile guests in `tests/hostile`: how each is pushed and called, and its expected outcome."""

import json
import re
import shutil
import time
from dataclasses import dataclass, field

from hostile_site import NEIGHBOUR, SECRET, UNSAFE, VICTIM
from waiting import wait_until

# Small, so that every limit is reached in a second. What a case says itself comes on top.
LIMITS = {
    "time_limit": 10,
    "cpu_time_limit": 0.3,
    "memory": "16MiB",
    "max_result": "64KiB",
    "max_log": "16KiB",
    "max_handles": 500,
    "max_random": "1MiB",
    "max_host_calls": 20_000,
    "max_children": 10,
    "max_descendants": 40,
    "max_depth": 8,
    "max_requests": 10,
    "max_disk": "1MiB",
    "max_table_elements": 50_000,
}


@dataclass
class Fails:
    """The class of the exception that the caller reads, and a part of its text."""

    exception: str
    says: str = ""

    def wrong(self, exception, text):
        return None if exception == self.exception and self.says in text else f"{exception}: {text}"


@dataclass
class Returns:
    """The value that the caller reads; a function says what is wrong with it."""

    value: object

    def wrong(self, exception, text):
        if exception != "returned":
            return f"{exception}: {text}"
        value = json.loads(text)
        if callable(self.value):
            return self.value(value)
        return None if value == self.value else text


@dataclass
class Refused:
    """The statuses that an upload may be answered with, and the parts of which each refusal has one: where an upload
    says its own, that one. What is taken has none, nor has a request whose head is too long for anybody to read."""

    says: tuple
    status: tuple = (422,)

    def wrong(self, status, text, says=""):
        parts = [says] if says else self.says
        right = status in self.status and (status in (201, 431) or any(part in text for part in parts))
        return None if right else f"{status} {text[:300]}"


@dataclass
class Endured:
    """Messages after which the worker is as it was, whatever became of them."""


@dataclass
class Call:
    expected: object
    args: tuple = ()
    function: str = "attack"


@dataclass
class Case:
    name: str
    contained_by: str
    expected: object = None
    args: object = ()
    calls: list = field(default_factory=list)
    limits: dict = field(default_factory=dict)
    manifest: str = ""
    grants: str = ""
    # Calls at once.
    times: int = 2
    # Rounds go on until the window is full, unless once is enough.
    once: bool = False
    # Says what has escaped, after the attack.
    check: object = None
    # RSS in KiB that the attack may take meanwhile, on top of what it had before.
    peak: int = 400 * 1024

    def manifest_text(self, site):
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**LIMITS, **self.limits}.items()]
        module, _, tasks = self.manifest.partition("[tasks")
        text = module + "\n[defaults]\n" + "\n".join(lines) + "\n" + (f"[tasks{tasks}" if tasks else "")
        return site.filled(text).encode()


def wasm(name, contained_by, expected, *args, **settings):
    return Case(name, contained_by, expected, args, **settings)


def many(name, contained_by, *calls, **settings):
    return Case(name, contained_by, calls=list(calls), **settings)


def upload(name, contained_by, *says, status=(422,), **settings):
    return Case(name, contained_by, Refused(says, status), **settings)


def trap(function, says, *args):
    return Call(Fails("WasmTrap", says), args, function)


def nothing(found):
    return f"ESCAPE: {found}" if found else None


def unanswered(lines):
    """No line of `authority: outcome` tells of an answer."""
    return nothing([line for line in lines if line.rpartition(": ")[2].isdigit()])


def all_denied(lines):
    """Each line tells of a refusal: what was dialled, and did not answer, has escaped too."""
    return nothing([line for line in lines if not line.endswith(("HttpRequestDenied", "DestinationIpProhibited"))])


def denied_where_known(lines):
    """The same, but not every machine knows all names after the first."""
    return all_denied([lines[0], *(line for line in lines[1:] if "DnsError" not in line)])


def few_sockets(taken):
    """At most as many as `host/runtime/src/limits/descriptors.rs` gives one task."""
    if taken == 0:
        return "no socket at all"
    return nothing(None if taken <= 64 else f"{taken} sockets")


def nothing_outside(site):
    """The folder around the granted ones is as it was, and the box is cleared."""
    granted = site.folder / "granted"
    names = sorted(path.name for path in granted.iterdir())
    whole = names == ["box", "canary", "shelf"] and (granted / "canary").read_text() == SECRET
    for path in (granted / "box").iterdir():
        if path.name not in ("inner", "pipe", "way-out", "file-out"):
            path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
    return nothing(None if whole else names)


def unread(site):
    book = site.folder / "granted" / "shelf"
    names = sorted(path.name for path in book.iterdir())
    return nothing(None if names == ["book"] and (book / "book").read_text() == "unread" else names)


def small_box(site):
    """The box takes little of the disk, and is cleared."""
    box = site.folder / "granted" / "box"
    used = 0
    for path in box.iterdir():
        if path.is_file() and not path.is_symlink():
            used += path.stat().st_blocks * 512
            path.unlink()
    return nothing(None if used <= 40 << 20 else f"{used >> 20} MiB on the disk")


def empty_temp(site):
    """The temporary folders of all runs are gone."""
    left = lambda: [str(path) for path in (site.folder / "tmp").glob("*/*")][:5]  # noqa: E731
    try:
        wait_until(lambda: not left(), "the temporary folders are gone", 10)
    except AssertionError:
        return f"ESCAPE: left in the temporary folder: {left()}"
    return None


def bounded_forks(mark, most):
    """Counts the tasks of an attack by the mark that each of them prints: at most `most`."""
    before = 0

    def check(site):
        start = before
        count = lambda: site.worker.log().count(f"FORKED {mark}") - start  # noqa: E731

        def quiet():
            nonlocal before
            seen = count()
            time.sleep(0.7)
            before = start + seen
            return seen if count() == seen else None

        try:
            wait_until(quiet, "the attack ends by itself", 20)
        except AssertionError:
            return f"ESCAPE: it goes on and on: {count()} tasks so far"
        return nothing(None if 1 <= count() <= most else f"{count()} tasks came of it, at most {most} were to")

    return check


def requests_are_whole(site):
    lines = {
        line
        for line in site.granted.requests
        if not line.startswith(("GET / ", "POST / ", "GET /redirect", "GET /endless"))
    }
    return nothing([line for line in lines if "smuggled" in line or "/b" in line or not line.endswith("HTTP/1.1")])


def closed_connections(site):
    try:
        wait_until(lambda: site.granted.open == 0, "connections are closed", 10)
    except AssertionError:
        return f"ESCAPE: {site.granted.open} connections are open"
    return None


def victims_secret(site):
    value = site.outcome(site.call(f"{VICTIM}.load", ()))
    return nothing(None if value == ("returned", '"victim"') else value)


def no_gadget(site):
    """Celery's reader refuses what is no class of an exception, and nothing is called."""
    module, seen = "hostile.python_gadget.attack", []
    for call in (
        ("os", "system", "echo owned > owned"),
        ("builtins", "eval", "1"),
        ("subprocess", "getoutput", "echo"),
    ):
        exception, _ = site.outcome(site.call(module, call))
        seen += [] if exception in ("SecurityError", call[1]) else [exception]
    return nothing(seen)


def quiet_terminal(site):
    """A module's documentation, as the command line prints it, does nothing to a terminal."""
    *_, bomb = site.uploads_of("documentation_bomb")
    site.push("hostile.documentation_bomb", bomb)
    shown = site.petiole("tasks", "hostile.documentation_bomb.attack") + site.petiole("tasks")
    return nothing(None if "ESCAPED" in shown and not UNSAFE.search(shown) else repr(shown[:500]))


def senders_hear(site):
    """Each body is refused for its size."""
    ids = ["hostile-bomb", *(f"hostile-bomb-{number}" for number in range(3))]
    seen = [site.outcome(site.app.AsyncResult(task_id))[0] for task_id in ids]
    return nothing(None if set(seen) == {"ArgumentsTooLarge"} else seen)


def is_an_id(value):
    return None if re.fullmatch("[0-9a-f-]{36}", value) else value


def stolen_by(attacker):
    return lambda site: stolen(site, f"hostile.{attacker}.attack")


def stolen(site, attacker):
    """The caller of a task whose id the attacker knows reads its own result."""
    seen = []
    # one that runs, and one that waits in the broker
    for delay in (0, 2):
        victim = site.app.signature(f"{NEIGHBOUR}.sleep_ms", args=(500,)).apply_async(countdown=delay)
        site.outcome(site.call(attacker, (victim.id, f"{NEIGHBOUR}.add")))
        time.sleep(delay + 0.7)
        seen.append(site.outcome(victim))
    return nothing(None if seen == [("returned", "500")] * 2 else seen)


def whole_metrics(site):
    """Every line of the metrics is one, and none is forged."""
    _, text = site.request("GET", "/metrics")
    line = re.compile(r'(#.*|[a-z_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)*\})? [-+.e0-9A-Za-z]+)')
    broken = [one for one in text.split("\n") if one and not line.fullmatch(one) or one.startswith("forged")]
    return nothing([one[:200] for one in broken])


METRIC_NAME = "[tasks.attack]\nname = 'a\"}1,forged_metric{a=\"'\n"
HTTP_GRANTED = 'http = ["http://127.0.0.1:GRANTED"]\n'
ASKS_HTTP = "[capabilities]\n" + HTTP_GRANTED
# Any name, and any public address: what else there is to be denied, its address must.
ANY_HTTP = 'http = ["http://*:CANARY"]\n'
ANY_TCP = 'tcp = ["*:CANARY"]\n'
NAMES = 'http = ["http://localhost:CANARY", "http://ip6-localhost:CANARY", "http://localhost.:CANARY", "http://*.localhost:CANARY"]\n'
REBOUND = 'http = ["http://localhost:GRANTED"]\ntcp = ["localhost:GRANTED"]\n'
BOX = 'folders = { box = "read-write" }\n'
SHELF = 'folders = { shelf = "read-only" }\n'
TEMP = 'temp = "512KiB"\n'
LARGE_TEMP = 'temp = "64MiB"\n'
KEYVALUE = "keyvalue = true\n"


def capabilities(text):
    return {"manifest": "[capabilities]\n" + text, "grants": text}


CHILD = {"task": f"{NEIGHBOUR}.add", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}
GROUP = {**CHILD, "task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [CHILD] * 3}}
UNCOUNTED = [
    f"{NEIGHBOUR}.add",
    {name: value for name, value in GROUP.items() if name != "task"},
    {**GROUP, "options": {"options": {"link": CHILD}}},
    {**GROUP, "options": [["link", CHILD]]},
    {**CHILD, "options": {"stamped_headers": ["headers"], "headers": {}}},
    {**CHILD, "options": {"chain": [CHILD, GROUP]}},
    {**CHILD, "task": "celery.starmap", "kwargs": {"task": CHILD, "it": [[1, 1]] * 100}},
]

# Options that no message has, with the exception and text for each.
INVALID = "invalid signature"
NO_OPTIONS = [
    (("countdown", 1e300), "DecodeError", INVALID),
    (("countdown", -1e300), "DecodeError", INVALID),
    (("countdown", 2**64 - 1), "DecodeError", INVALID),
    (("eta", "-9999-01-01T00:00:00"), "DecodeError", INVALID),
    (("eta", "9999-12-31T23:59:59.999999999999"), "DecodeError", INVALID),
    (("expires", 1.7976931348623157e308), "DecodeError", INVALID),
    (("priority", -1), "DecodeError", INVALID),
    (("priority", 1000), "DecodeError", INVALID),
    (("task_id", ["a", "list"]), "ValueError", "option task_id is the worker's to choose"),
    (("link", "not a signature"), "DecodeError", INVALID),
    (("queue", "q" * 1000), "DecodeError", "has 1000 bytes, over the limit of 255"),
]
# Messages that AMQP can't carry, and the limit that is named.
UNSENDABLE = [
    (("hostile." + "x" * 140_000, []), 118776),
    (("hostile.nowhere.attack", [("headers", {"large": "x" * 140_000})]), 118776),
    (("hostile.nowhere.attack", [("shadow", "x" * 140_000)]), 118776),
    (("hostile.nowhere.attack", [("queue", "q" * 220), ("countdown", 60)]), 199),
]
# Options that the broker refuses.
REFUSED = [("exchange", "amq.rabbitmq.trace"), ("queue", "amq.mine"), ("reply_to", "amq.rabbitmq.reply-to")]

NOT_VALID = "the component is not valid: failed to parse"
NO_TASK = "the component has no task"
TOO_SLOW = "compiling takes longer than"
TOO_LARGE = "the component needs more than 1073741824 bytes of memory to compile"
COMPILER = (TOO_SLOW, TOO_LARGE)
CPU = Fails("CpuTimeLimitExceeded", "CPU time limit of 0.3 s exceeded")
TIME = Fails("TimeLimitExceeded", "0.8")
SLOW = {"time_limit": 0.8}
REQUESTS = {"max_requests": 100}
MEMORY = Fails("MemoryLimitExceeded", "memory limit of 16 MiB exceeded: the task asked for")

CASES = [
    # time
    wasm("spin", "CPU time limit", CPU),
    wasm("spin_in_start", "CPU time limit", CPU),
    wasm("spin_in_realloc", "CPU time limit", CPU, "text"),
    wasm("spin_in_post_return", "CPU time limit", CPU),
    wasm("spin_in_bulk_memory", "threads of its own, CPU time limit", CPU, limits={"memory": "128MiB"}),
    wasm("host_call_loop", "host call limit", Fails("HostCallLimitExceeded", "host call limit of 20000 exceeded")),
    wasm("huge_host_call", "CPU time limit", CPU, 400_000, limits={"max_result": "1MiB"}),
    wasm(
        "huge_string_host_call",
        "threads of its own, CPU time limit",
        CPU,
        limits={"memory": "128MiB", "max_result": "4MiB"},
    ),
    wasm("poll_spin", "CPU time limit", CPU, limits={"max_handles": 3000, "max_host_calls": 1_000_000_000}),
    wasm("sleep_forever", "time limit", TIME, limits=SLOW),
    many("same_module", "CPU time limit", Call(CPU), *[Call(Returns(7), (3, 4), "add")] * 20, times=1),
    wasm(
        "slot_hog", "the module's own concurrency", Returns(150), 150, manifest="concurrency = 4\n", times=60, once=True
    ),
    # memory
    wasm("memory_bomb", "memory limit", MEMORY, times=8),
    wasm("denied_then_spin", "CPU time limit", CPU),
    wasm("memories_in_sum", "memory limit", MEMORY),
    wasm(
        "initial_memory",
        "memory limit",
        Fails("MemoryLimitExceeded", "memory limit of 16 MiB exceeded: the task asked for 32 MiB"),
    ),
    upload("many_memories", "the pool's shape", "12 Wasm linear memories, which exceeds"),
    upload(
        "huge_initial_memory",
        "the largest memory of any task",
        "memory has a minimum byte size of 4294967296 which exceeds",
    ),
    upload("memory64", "a feature that is off", "memory64 must be enabled"),
    upload("shared_memory", "a feature that is off", "threads must be enabled"),
    wasm("memory_spy", "a sandbox made anew for each task", Returns(0), times=8),
    wasm("table_bomb", "table limit", Fails("TableLimitExceeded", "table limit of 50000 elements exceeded")),
    upload("huge_table", "the pool's shape", "minimum element size of 400000000 which exceeds"),
    upload("instance_bomb", "the pool's shape", "51 core module instances, which exceeds"),
    upload("nested_instances", "the compiler's limits", *COMPILER),
    # stack and traps
    wasm("recursion", "the guest's stack", Fails("StackOverflow", "call stack exhausted")),
    wasm(
        "recursion_into_host",
        "the guest's stack",
        Fails("StackOverflow", "call stack exhausted"),
        limits={"max_host_calls": 10_000_000, "cpu_time_limit": 5},
    ),
    wasm("shadow_stack", "the sandbox", Fails("WasmTrap", "out of bounds memory access")),
    many(
        "traps",
        "the sandbox",
        trap("abort", "unreachable"),
        trap("divide", "divide by zero"),
        trap("overflow", "integer overflow"),
        trap("write", "out of bounds memory access"),
        trap("call_nothing", "uninitialized element"),
        trap("call_other", "indirect call type mismatch"),
        trap("call_past", "undefined element"),
        times=1,
    ),
    wasm("forged_traceback", "escaped control characters", Fails("WasmTrap", "unreachable")),
    wasm("panic", "the sandbox, escaped control characters", Fails("Panic", "at the \\u{1b}[31mdisco")),
    wasm("panic_in_panic", "the sandbox", Fails("Panic", "called `Option::unwrap()` on a `None` value")),
    many(
        "exit",
        "the sandbox",
        Call(Fails("GuestExit", "1"), (3,)),
        Call(Fails("GuestExit"), (0,)),
        Call(Fails("GuestExit"), (-1,)),
        times=1,
    ),
    # results and arguments
    wasm("giant_string", "result limit", Fails("ResultTooLarge", "limit"), 8 << 20),
    wasm("giant_list", "result limit", Fails("ResultTooLarge", "limit"), 8 << 20),
    wasm("lists_of_one_place", "result limit", Fails("ResultTooLarge", "limit"), 500_000),
    wasm("json_amplifier", "result limit", Fails("ResultTooLarge", "counts as"), 7_500_000),
    wasm("deep_json", "the reader's depth", Fails("InvalidResult", "recursion limit"), 10_000),
    many(
        "wild_pointers",
        "checks of what is read",
        trap("past", "out of bounds"),
        trap("wraps", "out of bounds"),
        trap("overflows", "out of bounds"),
        trap("misaligned", "align"),
        trap("nowhere", "out of bounds"),
        trap("garbled", "utf-8"),
        trap("surrogate", "char"),
        trap("no_case", "discriminant"),
        times=1,
    ),
    many(
        "lying_realloc",
        "checks of what is written to",
        trap("past", "beyond end of memory", "text"),
        trap("misaligned", "not aligned", [1, 2, 3]),
        times=1,
    ),
    wasm(
        "argument_bomb",
        "argument limit",
        Fails("ArgumentsTooLarge", "limit"),
        [0] * 100_000,
        limits={"max_arguments": "64KiB"},
    ),
    wasm("deep_type", "the depth of types", Returns(lambda value: None if str(value).count("some") == 89 else value)),
    upload("type_bomb", "the size of types", "effective type size exceeds the limit"),
    upload("large_type", "the size of types when written out", "written out"),
    # handles
    wasm("pollable_bomb", "handle limit", Fails("HandleLimitExceeded", "handle limit of 500 exceeded")),
    wasm("stream_bomb", "handle limit", Fails("HandleLimitExceeded", "handle limit of 500 exceeded")),
    wasm(
        "resource_bomb",
        "handle limit",
        Fails("HandleLimitExceeded", "handle limit of 500 exceeded"),
        limits={"max_host_calls": 1_000_000_000},
    ),
    wasm("socket_bomb", "a slot's share of descriptors", Returns(few_sockets), **capabilities(ANY_TCP)),
    wasm("open_files", "a slot's share of descriptors", Fails("IoError", "os error 48"), "/box", **capabilities(BOX)),
    # log, states, random numbers
    wasm("stdout_flood", "log limit", Fails("LogLimitExceeded", "log limit of 16 KiB exceeded")),
    wasm("log_flood", "log limit", Fails("LogLimitExceeded", "log limit of 16 KiB exceeded")),
    wasm("empty_lines_flood", "log limit", Fails("LogLimitExceeded", "log limit of 16 KiB exceeded")),
    wasm("progress_flood", "host call limit", Fails("HostCallLimitExceeded", "host call limit of 20000 exceeded")),
    wasm(
        "terminal_escapes",
        "escaped control characters",
        Returns(lambda text: nothing("" if "ESCAPED" in text else text)),
    ),
    wasm("forged_log_lines", "escaped control characters", Returns(None)),
    many(
        "forged_exception",
        "escaped control characters",
        *[
            Call(Fails(f"Oops{end}[2026-01-01 00:00:00,000: INFO/petiole] Task FORGED[1] succeeded in 0.1s: 1"), (end,))
            for end in ("\n", "\u2028", "\x85", "\u202e")
        ],
        times=1,
    ),
    wasm("random_bomb", "random limit", Fails("RandomLimitExceeded", "random limit of 1 MiB exceeded")),
    wasm("random_gulp", "random limit", Fails("RandomLimitExceeded", "random limit of 1 MiB exceeded")),
    wasm("insecure_random_bomb", "random limit", Fails("RandomLimitExceeded", "random limit of 1 MiB exceeded")),
    # what the worker has
    wasm(
        "environment",
        "nothing is given that was not granted",
        Returns(lambda seen: None if seen == NO_ENVIRONMENT else nothing(seen)),
    ),
    wasm("path_traversal", "the granted folder", Returns(nothing), check=nothing_outside, **capabilities(BOX)),
    wasm(
        "symlinks",
        "the granted folder",
        Returns(nothing),
        check=nothing_outside,
        times=1,
        once=True,
        **capabilities(BOX),
    ),
    wasm("read_only_folder", "read-only access", Returns(nothing), check=unread, **capabilities(SHELF)),
    wasm("slow_reader", "files that are no pipes", Fails("IoError", "not permitted"), **capabilities(BOX)),
    wasm(
        "disk_filler",
        "disk limit",
        Fails("DiskLimitExceeded", "disk limit of 1 MiB exceeded"),
        "/box",
        check=small_box,
        **capabilities(BOX),
    ),
    wasm(
        "rewriter",
        "disk limit",
        Fails("DiskLimitExceeded", "disk limit of 1 MiB exceeded"),
        "/box",
        check=small_box,
        **capabilities(BOX),
    ),
    wasm(
        "sparse_file",
        "the temporary folder's quota",
        Returns("false false Some(Ok(false))"),
        "/tmp",
        check=empty_temp,
        **capabilities(TEMP),
    ),
    wasm(
        "many_files",
        "a number of files",
        Fails("IoError", "No space left"),
        "/tmp",
        limits={"cpu_time_limit": 5, "max_host_calls": 1_000_000, "max_disk": "64MiB"},
        check=empty_temp,
        **capabilities(LARGE_TEMP),
    ),
    wasm(
        "deep_folders",
        "clean-up that needs no stack",
        Returns(5000),
        5000,
        limits={"max_disk": "64MiB", "cpu_time_limit": 5},
        check=empty_temp,
        **capabilities(LARGE_TEMP),
    ),
    wasm("temp_spy", "a temporary folder for each run", Returns([]), times=8, check=empty_temp, **capabilities(TEMP)),
    many(
        "keyvalue_of_another",
        "the module's own prefix",
        Call(Returns(nothing)),
        check=victims_secret,
        **capabilities(KEYVALUE),
    ),
    wasm(
        "keyvalue_flood", "disk limit", Fails("DiskLimitExceeded", "disk limit"), 100, 1 << 16, **capabilities(KEYVALUE)
    ),
    # network
    upload("ungranted", "capabilities", "not granted"),
    wasm(
        "ssrf_by_address",
        "checks of addresses",
        Returns(all_denied),
        "CANARY",
        limits=REQUESTS,
        **capabilities(ANY_HTTP),
    ),
    wasm(
        "ssrf_ipv4_in_ipv6",
        "checks of addresses",
        Returns(all_denied),
        "CANARY",
        limits=REQUESTS,
        **capabilities(ANY_HTTP),
    ),
    wasm(
        "ssrf_by_name",
        "checks of the addresses that names lead to",
        Returns(denied_where_known),
        ["localhost:CANARY", "ip6-localhost:CANARY", "localhost.:CANARY", "LOCALHOST:CANARY", "x.localhost:CANARY"],
        **capabilities(NAMES),
    ),
    wasm(
        "ssrf_by_redirect",
        "egress rules",
        Returns(lambda seen: nothing(seen if seen[0] != "302" or seen[1].isdigit() else "")),
        "127.0.0.1:GRANTED",
        manifest=ASKS_HTTP,
        grants=HTTP_GRANTED,
    ),
    wasm(
        "authority_tricks",
        "egress rules",
        Returns(unanswered),
        "127.0.0.1:GRANTED",
        "127.0.0.1:CANARY",
        limits=REQUESTS,
        manifest=ASKS_HTTP,
        grants=HTTP_GRANTED,
    ),
    wasm(
        "header_injection",
        "checks of what is sent",
        Returns(nothing),
        "127.0.0.1:GRANTED",
        check=requests_are_whole,
        manifest=ASKS_HTTP,
        grants=HTTP_GRANTED,
    ),
    many(
        "slow_server",
        "time limit",
        Call(TIME, ("127.0.0.1:GRANTED", "/silent")),
        Call(TIME, ("127.0.0.1:GRANTED", "/drip")),
        Call(MEMORY, ("127.0.0.1:GRANTED", "/endless")),
        Call(Fails("NoReply"), ("127.0.0.1:GRANTED", "/headers")),
        times=1,
        once=True,
        limits=SLOW,
        check=closed_connections,
        manifest=ASKS_HTTP,
        grants=HTTP_GRANTED,
    ),
    wasm(
        "request_flood",
        "request limit",
        Fails("RequestLimitExceeded", "request limit of 10 exceeded"),
        "127.0.0.1:GRANTED",
        check=closed_connections,
        manifest=ASKS_HTTP,
        grants=HTTP_GRANTED,
    ),
    wasm(
        "unread_replies",
        "request limit",
        Fails("RequestLimitExceeded", "request limit of 10 exceeded"),
        "127.0.0.1:GRANTED",
        1000,
        check=closed_connections,
        manifest=ASKS_HTTP,
        grants=HTTP_GRANTED,
    ),
    many(
        "http_strings",
        "the size of what a request is made of",
        Call(Returns(0), (100,), "strings"),
        Call(Fails("HandleLimitExceeded", "handle limit of 416 exceeded"), (), "fields"),
        times=1,
        limits={"memory": "64MiB", "max_result": "1MiB", "cpu_time_limit": 10, **REQUESTS},
        manifest=ASKS_HTTP,
        grants=HTTP_GRANTED,
    ),
    wasm("tcp_ssrf", "checks of addresses", Returns(nothing), "CANARY", **capabilities(ANY_TCP)),
    wasm(
        "rebinding",
        "what a name was found to lead to",
        Returns(nothing),
        "localhost",
        "GRANTED",
        "CANARY",
        limits=REQUESTS,
        manifest="[capabilities]\n" + REBOUND,
        grants=REBOUND + 'networks = ["127.0.0.1/32"]\n',
    ),
    wasm("long_name", "the length of names", Returns(0), 1000, **capabilities('tcp = ["*.example.com:1"]\n')),
    # tasks that send tasks
    wasm(
        "fork_bomb",
        "depth and number of descendants",
        Returns(None),
        "fork_bomb",
        times=1,
        once=True,
        check=bounded_forks("fork_bomb", 41),
    ),
    wasm(
        "forged_lineage",
        "depth and number of descendants",
        Returns(None),
        "forged_lineage",
        times=1,
        once=True,
        check=bounded_forks("forged_lineage", 41),
    ),
    wasm(
        "nested_children",
        "children limit",
        Fails("ChildrenLimitExceeded", "children limit of 10 exceeded"),
        limits={"max_result": "1MiB"},
    ),
    many(
        "hidden_children",
        "checks of what is sent",
        *[Call(Fails("DecodeError", "invalid signature"), (callback,)) for callback in UNCOUNTED],
        times=1,
    ),
    wasm("child_flood", "children limit", Fails("ChildrenLimitExceeded", "children limit of 10 exceeded")),
    wasm(
        "giant_children",
        "result limit",
        Fails("ResultTooLarge", "result limit of 2 MiB exceeded"),
        100,
        1 << 20,
        limits={"max_result": "2MiB", "max_children": 100, "memory": "64MiB"},
    ),
    wasm(
        "callback_cycle",
        "depth and number of descendants",
        Returns("callback_cycle"),
        "callback_cycle",
        False,
        None,
        times=1,
        once=True,
        check=bounded_forks("callback_cycle", 41),
    ),
    wasm(
        "retry_for_ever",
        "the worker's number of retries",
        Fails("Again"),
        "retry_for_ever",
        times=1,
        once=True,
        check=bounded_forks("retry_for_ever", 41),
    ),
    wasm(
        "requeue_for_ever",
        "a number of deliveries",
        Fails("Reject", "not me"),
        "requeue_for_ever",
        times=1,
        once=True,
        check=bounded_forks("requeue_for_ever", 41),
    ),
    wasm(
        "stolen_id",
        "ids that the worker chooses",
        Fails("ValueError", "option task_id is the worker's to choose"),
        "someone-elses",
        NEIGHBOUR + ".add",
        check=stolen_by("stolen_id"),
    ),
    wasm(
        "child_of_another_id",
        "ids that the worker chooses",
        Returns(lambda child: None),
        "someone-elses",
        NEIGHBOUR + ".add",
        times=1,
        once=True,
        check=stolen_by("child_of_another_id"),
    ),
    wasm(
        "metric_names", "escaped labels", Fails("NotRegistered"), manifest=METRIC_NAME, once=True, check=whole_metrics
    ),
    Case("names", "escaped names, a bounded log line", Endured(), check=whole_metrics),
    Case("bombs", "argument limit", Endured(), check=senders_hear),
    many(
        "far_future",
        "checks of what is sent",
        *[Call(Fails(exception, says), option) for option, exception, says in NO_OPTIONS],
        times=1,
    ),
    many(
        "odd_destinations",
        "checks of what is sent, channels of their own",
        *[Call(Fails("DecodeError", f"over the limit of {limit}"), call) for call, limit in UNSENDABLE],
        *[Call(Returns(is_an_id), ("hostile.nowhere.attack", [option])) for option in REFUSED],
        limits={"max_result": "1MiB"},
        times=1,
    ),
    many(
        "python_gadget",
        "names that stay names, the reader's own checks",
        Call(Fails("builtins.SystemExit", "1"), ("inspect", "builtins.SystemExit", "1")),
        Call(Fails("KeyboardInterrupt", "1"), ("builtins", "KeyboardInterrupt", "1")),
        Call(Fails("WorkerShutdown", "1"), ("celery.exceptions", "WorkerShutdown", "1")),
        times=1,
        check=no_gadget,
    ),
    # uploads
    upload("core_module", "checks of an upload", "core module"),
    upload("import_of_another_shape", "checks of an upload", "can't run here"),
    upload("import_of_a_shell", "checks of an upload", "host:shell/commands@1.0.0"),
    upload(
        "another_modules_task", "checks of an upload", NEIGHBOUR, manifest=f'[tasks.attack]\nname = "{NEIGHBOUR}.add"\n'
    ),
    upload("empty", "checks of an upload", "this is not WebAssembly", "this is a core module", NO_TASK),
    upload("oversized", "the size of an upload", "the component is larger than 67108864 bytes", status=(413,)),
    upload("truncated", "checks of an upload", NOT_VALID, NO_TASK),
    upload(
        "bit_flipped",
        "checks of an upload",
        NOT_VALID,
        NO_TASK,
        "this is not WebAssembly",
        "this is a core module",
        status=(422, 201),
    ),
    upload("random_bytes", "checks of an upload", "this is not WebAssembly", "malformed section id"),
    upload("compiled_code", "checks of an upload", "this is not WebAssembly", NOT_VALID),
    upload("compile_bomb", "the compiler's time", TOO_SLOW),
    upload("compiler_memory_bomb", "the compiler's memory", TOO_LARGE),
    upload("many_functions", "the compiler's limits", *COMPILER),
    upload("hundreds_of_imports", "checks of an upload", "imports what is not granted to it"),
    upload("recursive_type", "checks of an upload", "type index out of bounds"),
    upload("nested_components", "the compiler's limits", *COMPILER),
    upload("export_names", "checks of an upload"),
    upload("module_names", "checks of names", "is not a module name", status=(400, 404, 431)),
    upload("manifests", "checks of the manifest"),
    upload(
        "documentation_bomb",
        "the size of documentation, escaped control characters",
        status=(201,),
        check=quiet_terminal,
    ),
]

NO_ENVIRONMENT = [
    "vars: []",
    "args: []",
    'stdin: Ok("")',
    "preopens: 0",
    "cwd: None",
    "/proc/self/environ: denied",
    "/etc/passwd: denied",
    ".: denied",
    "petiole.toml: denied",
    "/dev/mem: denied",
]
