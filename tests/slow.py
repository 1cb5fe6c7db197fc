"""Writes `slow.txt`, the tests that `make quick` leaves out, from what pytest printed with `--durations=0`: `make slow`."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

CASE, FUNCTION = 1.0, 3.0
"""Seconds from which one case of a test makes it slow, or all of its cases together."""
LINE = re.compile(r"^([\d.]+)s (?:setup|call|teardown) +((tests/\S+?\.py::[^\[\s]+).*)$", re.MULTILINE)


def slow(report: str) -> list[str]:
    """Returns the test functions that are slow, of all that the report names."""
    cases: dict[str, Counter[str]] = defaultdict(Counter)
    for seconds, case, function in LINE.findall(report):
        cases[function][case] += float(seconds)
    return sorted(f for f, of in cases.items() if max(of.values()) >= CASE or sum(of.values()) >= FUNCTION)


if __name__ == "__main__":
    found = slow(sys.stdin.read())
    if not found:
        sys.exit("no test is slow: was pytest run with --durations=0?")
    Path(__file__).with_name("slow.txt").write_text("\n".join(found) + "\n", encoding="utf-8")
