"""Hostile guests against one worker. For each: it is contained, the reason shown is the right one, the worker is what it
was before, and its neighbours have felt little of it."""

import ast
import os
import time

import pytest

from hostile_cases import CASES, KEYVALUE, Call, Endured, Refused
from hostile_report import REPORT, Row
from hostile_site import (
    FD_TOLERANCE,
    GUESTS,
    NEIGHBOUR,
    RSS_IN_ALL,
    RSS_TOLERANCE,
    VICTIM,
    HostileSite,
    Peak,
    Upload,
    forged,
)
from neighbours import p99

pytestmark = pytest.mark.alone

# Least duration of an attack, in seconds, so that enough neighbours meet it.
WINDOW = 0.7
QUIET = 0.15
# The neighbours' p99 during an attack against before: on two cores, which the guests share with RabbitMQ, Redis, Celery
# and the neighbours' own producer.
P99_FACTOR, P99_MORE = 5.0, 50.0
# Windows in which an attack must keep within it where the first was over: something else may have kept the machine busy
# then, or the worker may not have known yet what a function does without a pause. Both must.
MORE_WINDOWS = 2
# The largest answer to an upload, in bytes.
ANSWER = 64 * 1024


def sources():
    files = [path for path in GUESTS.iterdir() if path.suffix in (".rs", ".wat")]
    return {path.stem: path for path in [*files, *GUESTS.glob("uploads/*.py"), *GUESTS.glob("messages/*.py")]}


def attack(path):
    """The text at the top of a file."""
    text = path.read_text()
    if path.suffix == ".py":
        said = ast.get_docstring(ast.parse(text))
    else:
        mark = {".rs": "//!", ".wat": ";;"}[path.suffix]
        lines = (line for line in text.splitlines())
        head = []
        for line in lines:
            if not line.startswith(mark):
                break
            head.append(line.removeprefix(mark).strip())
        said = " ".join(head)
    assert said.startswith("Attack: "), f"{path} does not name its attack at the top"
    return " ".join(said.removeprefix("Attack: ").split())


def test_every_guest_has_a_case_and_every_case_a_guest():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert set(names) == set(sources())
    assert len(names) >= 45
    for path in sources().values():
        attack(path)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, component, amqp_url, redis_url):
    folder = tmp_path_factory.mktemp("hostile")
    grants = {case.name: case.grants for case in CASES if case.grants}
    grants["victim"] = KEYVALUE
    site = HostileSite(folder, component, amqp_url, redis_url, grants)
    os.environ["PETIOLE_TEST_CACHE"] = str(folder / "cache")
    try:
        site.start()
        victim = component("hostile/keyvalue_of_another").read_bytes()
        site.push(VICTIM, victim, f"[capabilities]\n{KEYVALUE}".encode())
        site.outcome(site.call(f"{VICTIM}.store", ("victim",)))
        site.rest(2)
        assert not site.neighbours.take_wrong()
        site.at_start = site.rss(), site.descriptors()
        yield site
    finally:
        site.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile(hostile, case):
    site, path = hostile, sources()[case.name]
    module = f"hostile.{case.name}"
    attacked = {Refused: uploads, Endured: messages}.get(type(case.expected), calls)
    if attacked is calls:
        status, text = site.push(module, site.component(f"hostile/{case.name}").read_bytes(), case.manifest_text(site))
        assert status == 201, text
    site.rest(QUIET)
    site.new_log()
    rss, descriptors = site.rss(), site.descriptors()
    hits, quiet = len(site.canary.hits), p99(site.quiet)

    with Peak(site) as peak:
        reasons, wrong, loud = attempt(site, case, module, attacked)
        if loud > bound(quiet):
            again = [attempt(site, case, module, attacked) for _ in range(MORE_WINDOWS)]
            reasons, wrong = {**again[0][0], **reasons}, [*wrong, *(one for _, more, _ in again for one in more)]
            loud = max(felt for *_, felt in again)
    wrong = list(dict.fromkeys(wrong))
    escapes = [problem for problem in wrong if problem.startswith("ESCAPE")]
    wrong = [problem for problem in wrong if problem not in escapes]
    rss_after, descriptors_after = site.settled(rss, descriptors)
    site.remove(module)
    log = site.new_log()
    crashes = ["the worker is gone"] if site.crashed() else []
    # at the beginning of a line: a guest's panic, and a compiler's, are quoted within one
    crashes += [line for line in log.splitlines() if line.startswith("thread '") and "panicked at" in line]
    escapes += list(dict.fromkeys(forged(log)))[:10]
    if len(site.canary.hits) > hits:
        escapes.append(f"the forbidden server was reached from {site.canary.hits[hits:]}")
    if descriptors_after > descriptors + FD_TOLERANCE:
        escapes.append(f"{descriptors} descriptors before, {descriptors_after} after")
    if rss_after > rss + RSS_TOLERANCE:
        escapes.append(f"RSS {rss} KiB before, {rss_after} KiB after")
    if peak.most > rss + case.peak:
        escapes.append(f"RSS {rss} KiB before, {peak.most} KiB meanwhile")

    escapes += site.neighbours.take_wrong()[:20]
    if loud > bound(quiet):
        escapes.append(f"the neighbours' p99 was {quiet:.1f} ms before, {loud:.1f} ms during")
    REPORT.add(
        Row(
            case.name,
            attack(path),
            case.contained_by,
            reasons,
            quiet,
            loud,
            rss,
            peak.most,
            rss_after,
            escapes,
            crashes,
            wrong,
        )
    )
    assert not (escapes or crashes or wrong), "\n".join([*escapes, *crashes, *wrong, log[-3000:]])


def test_all_of_them_leave_the_worker_as_it_was(hostile):
    """Leaks within the tolerance of each do not add up."""
    rss, descriptors = hostile.at_start
    rss_after, descriptors_after = hostile.settled(rss, descriptors, RSS_IN_ALL)
    REPORT.ending = f"RSS {rss >> 10} MiB before the first, {rss_after >> 10} MiB after the last of them"
    assert descriptors_after <= descriptors + FD_TOLERANCE
    assert rss_after <= rss + RSS_IN_ALL


def attempt(site, case, module, attacked):
    """One window of an attack: the reasons seen, what is wrong, and the p99 that the neighbours felt."""
    start = time.monotonic()
    reasons, wrong = attacked(site, case, module)
    end = time.monotonic()
    if case.check and (escaped := case.check(site)):
        wrong.append(escaped)
    if case.once:
        # what the calls have set off has gone on, and the check has seen its end
        end = time.monotonic()
    end = max(end, start + WINDOW)
    time.sleep(max(0.0, end - time.monotonic()))
    return reasons, wrong, p99(site.neighbours.window(start, end))


def bound(quiet):
    return max(quiet * P99_FACTOR, quiet + P99_MORE)


def calls(site, case, module):
    """Rounds of calls until the window is full: the reasons seen, and what is wrong with them."""
    each = case.calls or [Call(case.expected, case.args)]
    reasons, wrong, start = {}, [], time.monotonic()
    while True:
        sent = [
            (call, site.call(f"{module}.{call.function}", site.arguments(call.args)))
            for call in each
            for _ in range(case.times)
        ]
        for call, result in sent:
            exception, text = site.outcome(result)
            reasons.setdefault(exception, text)
            if problem := call.expected.wrong(exception, text):
                wrong.append(
                    problem if problem.startswith("ESCAPE") else f"{call.function}{call.args!r:.100}: {problem:.300}"
                )
        if case.once or time.monotonic() > start + WINDOW:
            return reasons, wrong


def uploads(site, case, module):
    """The same for the answers to uploads."""
    if sources()[case.name].suffix == ".py":
        made = site.uploads_of(case.name)
    else:
        made = [site.component(f"hostile/{case.name}").read_bytes()]
    reasons, wrong, start, limits = {}, [], time.monotonic(), case.manifest_text(site)
    made = [one if isinstance(one, Upload) else Upload(one) for one in made]
    while True:
        for number, one in enumerate(made):
            status, text = site.push(one.name if one.name is not None else module, one.body, one.manifest or limits)
            reasons.setdefault(status, text)
            if problem := case.expected.wrong(status, text, one.says):
                wrong.append(f"upload {number}: {problem}")
            if len(text) > ANSWER:
                wrong.append(f"upload {number}: {len(text)} bytes of answer")
            if status == 201:
                site.remove(one.name or module)
        if time.monotonic() > start + WINDOW or not all(isinstance(one.body, bytes) for one in made):
            return reasons, wrong


def messages(site, case, _):
    """The same for messages that no producer would send."""
    start, sent = time.monotonic(), 0
    while time.monotonic() < start + WINDOW:
        made = list(site.made_by(f"messages/{case.name}")["messages"](f"{NEIGHBOUR}.add"))
        site.publish(made)
        sent += len(made)
    return {"sent": f"{sent} messages"}, []
