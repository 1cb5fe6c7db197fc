"""Writes `slow.txt`, the tests that `make quick` leaves out, from what pytest printed with `--durations=0`: `make slow`.

With `more`, adds to those that are there: what a fixture costs that several tests share falls to the first of those that
are left in.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

CASE, FUNCTION = 0.5, 2.0
"""Seconds from which one case of a test makes it slow, or all of its cases together."""
LINE = re.compile(r"^([\d.]+)s (?:setup|call|teardown) +((tests/\S+?\.py::[^\[\s]+).*)$", re.MULTILINE)


def slow(report: str) -> list[str]:
    """Returns the test functions that are slow, of all that the report names."""
    cases: dict[str, Counter[str]] = defaultdict(Counter)
    for seconds, case, function in LINE.findall(report):
        cases[function][case] += float(seconds)
    return sorted(f for f, of in cases.items() if max(of.values()) >= CASE or sum(of.values()) >= FUNCTION)


if __name__ == "__main__":
    path, report = Path(__file__).with_name("slow.txt"), sys.stdin.read()
    if not LINE.search(report):
        sys.exit("no time of a test in it: was pytest run with --durations=0?")
    there = path.read_text(encoding="utf-8").split() if sys.argv[1:] == ["more"] else []
    path.write_text("".join(f"{name}\n" for name in sorted({*slow(report), *there})), encoding="utf-8")
