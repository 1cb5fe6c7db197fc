"""A pretext task: rotation learns to tell which way up a picture is, and for that it has to know what is in it.

The pictures are letters, anywhere and under noise, which an untrained encoder tells apart badly. They have an upright
position: where pictures have none, the task teaches nothing; and on `digits`, of 8×8 pixels, so short a training left the
features worse than untrained ones.

    python examples/pretext.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import unlabeled

LETTERS = "AFGJKRTY"  # none looks like another that is turned


def draw(path: Path, n: int = 1250, side: int = 24) -> Path:
    """Writes pictures of letters, of any size, brightness and place, and which letter each is."""
    numbers = np.random.default_rng(0)
    letters = numbers.integers(len(LETTERS), size=n)
    pictures = []
    for letter in letters:
        picture = Image.new("L", (side, side))
        font = ImageFont.load_default(int(numbers.integers(12, 19)))
        place, shade = tuple(numbers.uniform(7, side - 7, 2)), int(numbers.integers(120, 256))
        ImageDraw.Draw(picture).text(place, LETTERS[letter], shade, font, anchor="mm")
        pictures.append(np.asarray(picture) + numbers.normal(0, 30, (side, side)))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=np.stack(pictures).clip(0, 255).astype(np.uint8), y=letters)
    return path


def main(out: Path) -> dict[str, float]:
    """Returns the accuracy of a linear classifier, before and after."""
    run = unlabeled.pretrain(
        draw(out / "letters.npz"),
        method="rotation",
        encoder="resnet9",
        epochs=10,
        batch_size=64,
        options={"views.mirror": 0.0, "encoder.width": 8},  # the mirror image of a letter is another
        out=out / "run",
    )
    evaluation = unlabeled.evaluate(run.path, protocol=["knn", "linear:C=1"], against=["random"])
    print(evaluation)
    return {
        "untrained": evaluation.score("random", "100%", "linear").mean(),
        "rotation": evaluation.score("run", "100%", "linear").mean(),
    }


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/pretext"])))
