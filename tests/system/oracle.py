"""Decides whether anything was lost. Pure: it is tested on made-up records."""

from collections import Counter
from dataclasses import dataclass, field

FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"})


@dataclass(frozen=True)
class Expected:
    """A task that must end, with this state and, if it succeeds, this result."""

    task_id: str
    status: str
    result: object = None


@dataclass
class Verdict:
    """The judgement of the records. Duplicates are no loss: an id that ended more than once, always alike. An id that
    nobody expected is a callback that was sent again under another one."""

    lost: list = field(default_factory=list)
    # Ended, and nobody who waited was told.
    unheard: list = field(default_factory=list)
    wrong: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)
    duplicates: dict = field(default_factory=dict)

    def holds(self):
        return not self.lost and not self.unheard and not self.wrong and not self.unexpected


def check(expected, stored, announced):
    """Holds what is stored (id to meta) and what was announced ((id, status) in order) against what must be.

    An id has one final state for ever: an announcement of another one is wrong even if it was overwritten.
    """
    verdict = Verdict()
    for task in expected:
        meta = stored.get(task.task_id)
        if meta is None or meta["status"] not in FINAL:
            verdict.lost.append(task)
        elif meta["status"] != task.status:
            verdict.wrong.append((task, meta))
        elif task.status == "SUCCESS" and meta["result"] != task.result:
            verdict.wrong.append((task, meta))
    known = {task.task_id for task in expected}
    verdict.unexpected = sorted({task_id for task_id, _ in announced} - known)
    final = [(task_id, status) for task_id, status in announced if status in FINAL]
    heard = {task_id for task_id, _ in final}
    ended = (task for task in expected if stored.get(task.task_id, {}).get("status") in FINAL)
    verdict.unheard = [task for task in ended if task.task_id not in heard]
    states = {}
    for task_id, status in final:
        if states.setdefault(task_id, status) != status:
            verdict.wrong.append((task_id, {states[task_id], status}))
    ends = Counter(task_id for task_id, _ in final)
    verdict.duplicates = {task_id: times - 1 for task_id, times in ends.items() if times > 1}
    return verdict
