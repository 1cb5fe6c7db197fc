"""A method of one's own in one file: written, held to the contract, and trained.

    python examples/own_method.py

The command line knows it too, with its options, its recipe and its documentation:

    unlabeled methods repel --plugin examples/own_method.py
    unlabeled pretrain digits --method repel --method.weight 2 --plugin examples/own_method.py
"""

import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

import unlabeled
from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, register
from unlabeled.testing import check_method


@register("repel", recipe={"views": "simclr", "optimizer": "adamw"})  # its name, and what else of a run it asks for
@register("repel-strong", recipe={"views": "simclr", "optimizer": "adamw"}, weight=3.0)  # a second name, with other defaults
class Repel(Comparison):
    """Two views of an image attract, all images repel: alignment and uniformity (Wang & Isola 2020).

    Args:
        weight: of uniformity, against alignment.
        dim: of the embedding.
    """

    def __init__(self, encoder: Encoder, shape: DataShape, *, weight: Decay = 1.0, dim: Count = 64) -> None:
        super().__init__(encoder, shape)
        self.weight = weight  # the annotation says that it is at least 0, and the command line keeps to that
        self.projector = heads.mlp(encoder.dim, encoder.dim, dim)

    def embed(self, batch: Batch) -> Embedded:
        """Both views through the encoder; this part may be done in pieces."""
        h1, h2 = self.encoder(torch.cat(batch.views)).chunk(2)  # (B, D) each
        return {"h1": h1, "h2": h2}

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """What is minimised, and what is logged."""
        h = torch.cat([embedded["h1"], embedded["h2"]])
        z1, z2 = F.normalize(self.projector(h).float(), dim=1).chunk(2)  # (B, dim) each, of unit length
        alignment = (z1 - z2).square().sum(1).mean()
        others = torch.cat([gather(z1), gather(z2)])  # (N, dim) of all processes
        squared = (2 - 2 * torch.cat([z1, z2]) @ others.T).clamp(min=0)  # distances of anchors here to all
        apart = squared > 1e-6  # an embedding does not repel itself
        uniformity = ((-2 * squared).exp() * apart).sum(1).div(apart.sum(1)).log().mean()
        terms = {"alignment": alignment.detach(), "uniformity": uniformity.detach()}
        return Loss(alignment + self.weight * uniformity, terms, {"z": z1.detach()})


def main() -> None:
    """Checks the method, trains it for a moment on handwritten digits, and judges what it learned."""
    kept = check_method("repel", two_processes=True)
    print(f"{len(kept)} rules are kept: {', '.join(kept)}")
    with tempfile.TemporaryDirectory() as folder:
        run = unlabeled.pretrain(
            "digits", method="repel", encoder="resnet10t", epochs=5, out=Path(folder) / "run", options={"encoder.width": 8}
        )
        print(unlabeled.evaluate(run.path, protocol="knn"))


if __name__ == "__main__":
    main()
