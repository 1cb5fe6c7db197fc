"""Seconds that the contract suite takes for each method, in two working trees that take turns.

    python benchmarks/contract.py --before ../unlabeled-before --out results/contract.json

Seconds of the processor, of pytest and of all processes that it starts, as other work on the machine changes them least;
seconds of the clock beside them. What is started and imported is in them. The suite of protocols is no part: it tries no
methods.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parents[1]
LIST = "from unlabeled import registry; print(len(registry.names('methods')))"
DISTINCT = "from unlabeled.testing import trials; from unlabeled import registry as r; " \
    "print(len(trials(r.get('methods', n) for n in r.names('methods'))))"  # fmt: skip


def python(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a tree, with its package, on one thread."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, check=False)


def methods(tree: Path) -> int:
    """How many methods the tree's suite tries."""
    distinct = python(tree, "-W", "ignore", "-c", DISTINCT)
    return int((distinct if distinct.returncode == 0 else python(tree, "-c", LIST)).stdout)


def once(tree: Path) -> tuple[float, float, str]:
    """Seconds of the processor and of the clock that the suite takes, and its last line."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/contract",
        "--ignore",
        "tests/contract/test_protocols.py",
    ]
    done = python(tree, *words)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    said = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]
    failed = len(re.findall("^FAILED", done.stdout, re.MULTILINE))
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, wall, f"{said}; {failed} failed" if failed else said


def main() -> None:
    """Runs both suites in turn and prints the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="working tree to compare with")
    parser.add_argument("--after", type=Path, default=HERE, help="working tree (default: this one)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    trees = {"before": given.before.resolve(), "after": given.after.resolve()}
    counts = {side: methods(tree) for side, tree in trees.items()}
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in trees}
    for turn in range(given.rounds):
        for side, tree in trees.items():
            spent, wall, said = once(tree)
            seconds[side].append((spent, wall))
            print(
                f"round {turn + 1}, {side}: {spent:.1f} s of the processor, {wall:.1f} s of the clock ({said})", flush=True
            )
    found = {}
    for side, rows in seconds.items():
        spent, wall = (statistics.median(row[i] for row in rows) / counts[side] for i in (0, 1))
        found[side] = {"methods": counts[side], "processor": round(spent, 2), "clock": round(wall, 2)}
        print(f"{side}: {counts[side]} methods, a method takes {spent:.2f} s of the processor, {wall:.2f} s of the clock")
    share = {what: found["after"][what] / found["before"][what] for what in ("processor", "clock")}
    print(f"after / before: {share['processor']:.2f} of the processor, {share['clock']:.2f} of the clock")
    if given.out:
        given.out.write_text(json.dumps(found | {"ratio": share}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
