"""Tries the gradients of convolutions drawn at random, as encoders here compute them, beside those in float64.

    python benchmarks/gradients.py --rounds 6 --out results/gradients.json

Each round is a process of its own, so that one that dies or hangs costs no other and is counted: oneDNN's gradients depend
on the processor, and a fault in them may be a wrong value, a hang or the end of the process.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

EACH, LONGEST = 500, 300
"""Convolutions of a round, and seconds that it may take."""
CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 48, 64)
SIDES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 14, 16, 28, 32)


def drawn(draw: random.Random) -> dict[str, Any]:
    """Draws a convolution and its input; some cannot be computed."""
    dims = draw.choice((1, 2, 2, 2, 3))
    groups = draw.choice((1, 1, 1, 2, 4))
    kernel = (draw.choice((1, 1, 2, 3, 3, 5, 7)),) * dims
    return {
        "dims": dims, "groups": groups, "kernel": kernel,
        "inputs": groups * draw.choice(CHANNELS), "outputs": groups * draw.choice(CHANNELS),
        "stride": draw.choice((1, 1, 2, 2, 3)), "dilation": draw.choice((1, 1, 1, 2)),
        "padding": draw.choice((0, kernel[0] // 2)), "side": draw.choice(SIDES), "batch": draw.choice((1, 2, 8, 16, 33)),
        "last": draw.random() < 0.7, "bias": draw.random() < 0.3,
    }  # fmt: skip


def one(asked: dict[str, Any]) -> float | None:
    """By how much the gradients of a convolution are off, of their length; None for one that cannot be computed."""
    import torch
    from torch import nn

    from unlabeled.compute.gradients import without_strides

    reach = asked["dilation"] * (asked["kernel"][0] - 1) + 1
    size = asked["batch"] * asked["inputs"] * asked["side"] ** asked["dims"]
    if asked["side"] + 2 * asked["padding"] < reach or size > 2_000_000:
        return None
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[asked["dims"]](
        asked["inputs"], asked["outputs"], asked["kernel"], asked["stride"], asked["padding"], asked["dilation"],
        asked["groups"], asked["bias"],
    )  # fmt: skip
    network = nn.Sequential(conv)
    right = copy.deepcopy(network).double()
    without_strides(network)
    x = torch.randn(asked["batch"], asked["inputs"], *[asked["side"]] * asked["dims"])
    if asked["last"] and asked["dims"] == 2:
        x, network = x.contiguous(memory_format=torch.channels_last), network.to(memory_format=torch.channels_last)
    mine, theirs = x.requires_grad_(), x.detach().double().contiguous().requires_grad_()
    y, z = network(mine), right(theirs)
    g = torch.randn_like(z)
    (y * g).sum().backward()
    (z * g).sum().backward()
    learned = zip(network.parameters(), right.parameters(), strict=True)
    pairs = [(mine.grad, theirs.grad), *((a.grad, b.grad) for a, b in learned)]
    return max(float((a.double() - b).norm() / b.norm().clamp_min(1e-9)) for a, b in pairs)


def round_of(seed: int) -> None:
    """Prints what is wrong, then how many were tried, as JSON lines."""
    import torch

    torch.manual_seed(seed)
    draw, tried, largest = random.Random(seed), 0, 0.0
    for _ in range(EACH):
        asked = drawn(draw)
        off = one(asked)
        tried += off is not None
        largest = max(largest, off or 0.0)
        if off is not None and not off < 1e-4:
            print(json.dumps({"wrong": asked, "off": off}), flush=True)
    print(json.dumps({"tried": tried, "largest": largest}), flush=True)


def main() -> None:
    """Runs the rounds and prints what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--round", type=int, help="of this process alone")
    given = parser.parse_args()
    if given.round is not None:
        round_of(given.round)
        return
    tried, largest, wrong, died = 0, 0.0, list[Any](), list[Any]()
    for number in range(given.rounds):
        words = [sys.executable, __file__, "--round", str(number)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LONGEST)
            code, said = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            code, said = 124, (late.stdout or b"").decode() if isinstance(late.stdout, bytes) else str(late.stdout or "")
        found = [json.loads(line) for line in said.splitlines()]
        tried += sum(line.get("tried", 0) for line in found)
        largest = max(largest, *(line.get("largest", 0.0) for line in found), 0.0)
        wrong += [line for line in found if "wrong" in line]
        died += [{"round": number, "code": code}] if code else []
        print(f"round {number}: {tried:,} tried so far, {len(wrong)} wrong, {len(died)} rounds died", flush=True)
    if given.out:
        import torch

        from unlabeled.run import environment

        about = environment()
        processor, onednn = about["hardware"]["processor"], torch.backends.cpu.get_cpu_capability()
        found = {"processor": processor, "vectors": onednn, "torch": torch.__version__, "tried": tried, "largest": largest}
        given.out.write_text(json.dumps({**found, "wrong": wrong, "died": died}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
