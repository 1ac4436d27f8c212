"""The table of the hostile guests: filled by the tests, printed and written at their end."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Row:
    """One guest. Latencies are in milliseconds, memory is in KiB."""

    name: str
    attack: str
    contained_by: str
    reasons: dict
    p99_before: float
    p99_during: float
    rss_before: int
    rss_peak: int
    rss_after: int
    escapes: list
    crashes: list
    wrong: list

    def cells(self):
        reason = "; ".join(f"{kind}: {text}" if text else str(kind) for kind, text in self.reasons.items())
        mib = lambda kib: f"{kib / 1024:.0f}"  # noqa: E731
        return [
            self.name,
            self.attack,
            self.contained_by,
            shown(reason, 110),
            f"{self.p99_before:.1f} -> {self.p99_during:.1f}",
            f"{mib(self.rss_before)} -> {mib(self.rss_after)} ({mib(self.rss_peak)})",
        ]


def shown(text, width):
    """Makes a text one line, and escapes whatever a terminal would act on."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= width else text[: width - 3] + "..."


HEAD = ["guest", "attack", "contained by", "reason shown", "neighbours' p99, ms", "RSS, MiB (peak)"]
# Characters of each column that a terminal shows.
WIDTHS = [30, 40, 40, 60, 20, 20]


class Report:
    def __init__(self):
        self.rows, self.ending = [], ""

    def add(self, row):
        self.rows.append(row)

    def total(self):
        count = lambda what: sum(bool(getattr(row, what)) for row in self.rows)  # noqa: E731
        crashes, wrong = count("crashes"), count("wrong")
        total = f"{len(self.rows)} guests, {count('escapes')} escapes, {crashes} worker crashes, {wrong} wrong reasons"
        return f"{total}; {self.ending}" if self.ending else total

    def write(self, terminal):
        """Prints the beginnings of the table's cells, and writes all of it to `target/hostile.md`."""
        if not self.rows:
            return
        rows = [row.cells() for row in self.rows]
        table = [[shown(cell, width) for cell, width in zip(row, WIDTHS)] for row in [HEAD, *rows]]
        widths = [max(map(len, column)) for column in zip(*table)]
        terminal.section("hostile guests")
        for row in table:
            terminal.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        terminal.write_line(self.total())
        file = Path(os.environ["PETIOLE_BIN"]).parents[1] / "hostile.md"
        cell = lambda text: text.replace("|", "\\|").replace("<", "&lt;")  # noqa: E731
        lines = ["# Hostile guests", "", self.total(), ""]
        lines += ["| " + " | ".join(map(cell, row)) + " |" for row in [HEAD, ["---"] * len(HEAD), *rows]]
        file.write_text("\n".join(lines) + "\n")
        terminal.write_line(f"the same in full: {file}")


REPORT = Report()
