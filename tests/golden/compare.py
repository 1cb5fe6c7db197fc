"""Holds the bits of ten short runs to those of another commit, on this machine: `python tests/golden/compare.py REF`.

Digests are compared on the machine that makes them, since other processors round otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]


def digests(tree: Path) -> dict[str, str]:
    """What `digests.py` of this tree finds with the package of that one."""
    words = [sys.executable, "-W", "ignore", str(HERE / "tests" / "golden" / "digests.py")]
    told = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}, check=True,
                          cwd=tree, stdout=subprocess.PIPE, text=True)  # fmt: skip
    found: dict[str, str] = json.loads(told.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Prints a line for each method; exit code 1 if any differs."""
    reference = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", "-f", str(before), reference], cwd=HERE, check=True)
        try:
            old = digests(before)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], cwd=HERE, check=True)
    new = digests(HERE)
    for name in old:
        print(f"{name:12} {old[name]} {'same bits' if old[name] == new.get(name) else f'differs: {new.get(name)}'}")
    sys.exit(old != new)


if __name__ == "__main__":
    main()
