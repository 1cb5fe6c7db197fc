"""SimCLR: negatives are the other images of the batch."""

from __future__ import annotations

from functools import partial

import torch

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import debiased_nt_xent, info_nce_bound, nt_xent
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, Positive, Share, Width, register

MEASURED = {"resnet": {"optimizer": "sgd"}}
RECIPE = {"views": "simclr", "optimizer": {"name": "lars", "lr": 0.3, "weight_decay": 1e-6}}


@register(
    "debiased",
    recipe=RECIPE,
    measured=MEASURED,
    tau_plus=0.1,
    says="Debiased Contrastive Learning (Chuang et al. 2020): SimCLR with a corrected loss.",
)
@register(
    "hard-negatives",
    recipe=RECIPE,
    measured=MEASURED,
    tau_plus=0.1,
    hardness=1.0,
    says="Contrastive Learning with Hard Negative Samples (Robinson et al. 2021): SimCLR with a corrected, weighted loss.",
)
@register("simclr", recipe=RECIPE, measured=MEASURED)
class SimCLR(Comparison):
    """A Simple Framework for Contrastive Learning of Visual Representations (Chen et al. 2020), algorithm 1.

    `debiased` is its loss corrected for negatives of the anchor's own class (Chuang et al. 2020), `hard-negatives` also
    weighs negatives by their nearness (Robinson et al. 2021).

    Args:
        temperature: τ of NT-Xent (0.5: appendix B.9, CIFAR-10).
        dim: of the embedding z (128: §4.2).
        hidden: width of the projector's hidden layer; 0 takes the encoder's own (§4.2).
        projector: g(h): `mlp` (one hidden layer), `linear` or `none` (figure 8).
        normalize: whether embeddings are brought to length 1 (table 5 is the ablation, over the temperature).
        tau_plus: τ⁺, the chance that two images are of one class; 0 for NT-Xent (0.1, CIFAR-10: Chuang et al. 2020, §5.1).
        hardness: β: a negative weighs exp(s/τ) to this power; 0 for all alike (1 for CIFAR-10: Robinson et al. 2021).
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        temperature: Positive = 0.5,
        dim: Count = 128,
        hidden: Width = 0,
        projector: heads.Projector = "mlp",
        normalize: bool = True,
        tau_plus: Share = 0.0,
        hardness: Decay = 0.0,
    ) -> None:
        super().__init__(encoder, shape)
        corrected = tau_plus > 0 or hardness > 0
        if tau_plus == 1:
            raise UserError("--method.tau-plus 1 says that all images are of one class: give less than 1")
        if corrected and not normalize:
            raise UserError(
                "--method.normalize false has no debiased form: leave out --method.tau-plus and --method.hardness"
            )
        self.temperature = temperature
        self.objective = (
            partial(debiased_nt_xent, tau_plus=tau_plus, hardness=hardness)
            if corrected
            else partial(nt_xent, normalize=normalize)
        )
        self.projector = heads.projector(projector, encoder.dim, hidden or encoder.dim, dim)

    def embed(self, batch: Batch) -> Embedded:
        """Passes both views through the encoder as one batch."""
        h1, h2 = self.encoder(torch.cat(batch.views)).chunk(2)  # (B, D) each
        return {"h1": h1, "h2": h2}

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Passes both views through the projector as one batch, then NT-Xent (eq. 1) against all processes' embeddings."""
        h = torch.cat([embedded["h1"], embedded["h2"]])  # (2B, D)
        z1, z2 = self.projector(h).chunk(2)  # (B, dim) each
        all1, all2 = gather(z1), gather(z2)  # (N, dim) each
        loss = self.objective(z1, z2, self.temperature, gathered=(all1, all2), offset=rank() * len(z1))
        bound = info_nce_bound(loss.detach(), 2 * len(all1) - 1)
        return Loss(loss, {"mutual_information": bound}, {"z": z1.detach()})
