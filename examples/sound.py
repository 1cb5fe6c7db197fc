"""Recordings: CPC predicts what comes next in a melody; judged on an instrument that it has never heard.

All melodies have the same notes in different orders, so that their spectra, averaged over time, are much the same: log-mel
statistics can hardly tell them apart. Names of files say melody and instrument; `--columns` makes columns of them.

    python examples/sound.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

import unlabeled

RATE = 4000


def play(folder: Path, melodies: int = 6, instruments: int = 6, takes: int = 10, notes: int = 5) -> Path:
    """Writes recordings of half a second, each from any note of its melody on, called MELODY_INSTRUMENT_TAKE.wav."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(0)
    pitches = 300 * 2 ** (np.arange(notes) / 4)
    orders = [numbers.permutation(notes) for _ in range(melodies)]
    for instrument in range(instruments):
        overtones = numbers.uniform(0.2, 1, 3)
        for melody, take in np.ndindex(melodies, takes):
            order = np.roll(orders[melody], numbers.integers(notes))
            pitch = pitches[np.resize(order, 8)].repeat(RATE // 16)
            phase = 2 * np.pi * pitch.cumsum() / RATE
            tone = sum(amount * np.sin(k * phase) for k, amount in enumerate(overtones, 1))
            noise = numbers.normal(0, 0.3, len(pitch))
            soundfile.write(folder / f"{melody}_{instrument}_{take}.wav", 0.1 * (tone + noise), RATE)
    return folder


def main(out: Path) -> dict[str, float]:
    """Returns the accuracy of a linear classifier on log-mel statistics, before and after."""
    run = unlabeled.pretrain(
        play(out / "melodies"),
        method="cpc",
        columns="{melody}_{instrument}_{take}",
        label="melody",
        group="instrument",  # a whole one is held out
        epochs=12,
        precision="32",  # alike on machines with bf16 and without
        monitor_every=0,
        options={"encoder.width": 64, "encoder.context": 64, "optimizer.lr": 3e-3},
        out=out / "run",
    )
    evaluation = unlabeled.evaluate(run.path, protocol=["linear:C=1"], against=["random", "raw"])
    print(evaluation)
    names = {"log-mel": "log-mel", "untrained": "random", "cpc": "run"}
    return {name: evaluation.score(subject, "100%", "linear").mean() for name, subject in names.items()}


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/sound"])))
