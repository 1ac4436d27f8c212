"""The table of injected faults: filled by the tests, printed at their end."""

from dataclasses import dataclass


@dataclass
class Row:
    """One run: what was done to what, how often, and what the judge found."""

    what: str
    faults: int
    expected: int
    verdict: object
    published_twice: int

    def counts(self):
        verdict = self.verdict
        found = (verdict.lost, verdict.unheard, verdict.wrong, verdict.unexpected)
        return [self.faults, self.expected, *map(len, found), sum(verdict.duplicates.values()), self.published_twice]


HEAD = ["fault", "times", "tasks", "lost", "unheard", "wrong", "other ids", "ended twice", "published twice"]


class Report:
    def __init__(self):
        # Of each run what was done and its counts: what one process of pytest can tell another.
        self.rows = []

    def add(self, row):
        self.rows.append([row.what, row.counts()])

    def total(self):
        return ["in all", [sum(column) for column in zip(*(counts for _, counts in self.rows), strict=True)]]

    def write(self, reporter):
        if not self.rows:
            return
        table = [HEAD, *([what, *map(str, counts)] for what, counts in [*self.rows, self.total()])]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        reporter.section("injected faults")
        for line in table:
            reporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


FAULTS = Report()
