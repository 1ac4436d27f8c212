"""The table of injected faults: filled by the tests, printed at their end."""

from dataclasses import dataclass


@dataclass
class Row:
    """One run: what was done to what, how often, and what the judge found."""

    what: str
    faults: int
    expected: int
    verdict: object

    def cells(self):
        verdict = self.verdict
        counts = (self.faults, self.expected, len(verdict.lost), len(verdict.wrong), len(verdict.unexpected))
        return [self.what, *map(str, counts), str(verdict.duplicates)]


HEAD = ["fault", "times", "tasks", "lost", "wrong", "under other ids", "stored again"]


class Report:
    def __init__(self):
        self.rows = []

    def add(self, what, faults, expected, verdict):
        self.rows.append(Row(what, faults, expected, verdict))

    def total(self):
        cells = [row.cells()[1:] for row in self.rows]
        return ["in all", *(str(sum(map(int, column))) for column in zip(*cells, strict=True))]

    def write(self, reporter):
        if not self.rows:
            return
        table = [HEAD, *(row.cells() for row in self.rows), self.total()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        reporter.section("injected faults")
        for line in table:
            reporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


FAULTS = Report()
