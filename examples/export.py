"""The network elsewhere: in timm, with the lines of Python that use it there; and as one file of its own.

python examples/export.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import unlabeled


def main(out: Path) -> torch.Tensor:
    """Returns features of a batch from the encoder that was loaded from one file."""
    run = unlabeled.pretrain("digits", recipe="digits/simclr", epochs=1, options={"encoder.width": 8}, out=out)
    exported = unlabeled.export(run.path, format="timm", data="digits")  # refused unless the features agree
    print(exported.readme.read_text(encoding="utf-8"))

    file = out / "encoder-alone.safetensors"
    unlabeled.export(run.path, format="safetensors", out=file)
    encoder = unlabeled.load(file).eval()  # normalisation and resizing are inside
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features: torch.Tensor = encoder(images)
    return features


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/export"])).shape)
