"""SimCLR: negatives are the other images of the batch."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import debiased_nt_xent, info_nce_bound, margin_triplet, nt_logistic, nt_xent
from unlabeled.losses.mining import Mining
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, Positive, Share, Width, register

MEASURED = {"resnet": SHORT_RUNS}
RECIPE = {"views": "simclr", "optimizer": {"name": "lars", "lr": 1.2, "weight_decay": 1e-6}, "lr_scaling": "sqrt"}
"""0.075 · √B, which is 1.2 for 256: better for small batches than 0.3 · B/256 (Chen et al. 2020, appendix B.1); both are
4.8 for 4,096."""

Objective = Literal["nt-xent", "nt-logistic", "margin"]


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
        loss: `nt-xent`, `nt-logistic` or `margin` (tables 2 and 4).
        temperature: τ of NT-Xent and NT-Logistic (0.5: appendix B.9, CIFAR-10; for NT-Logistic they tried 0.1, 0.2, 0.5 and
            1, appendix B.10). `margin` has none.
        margin: m of `margin`, between cosines (0.8, of the 0, 0.4, 0.8 and 1.6 that they tried, appendix B.10).
        mining: which negatives count for `nt-logistic` and `margin`: `all`, `semi-hard` ("sh" in table 4), `hardest` or
            `distance-weighted`.
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
        loss: Objective = "nt-xent",
        temperature: Positive = 0.5,
        margin: Decay = 0.8,
        mining: Mining = "all",
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
        if loss != "nt-xent" and (corrected or not normalize):
            raise UserError(f"--method.loss {loss} has one form: leave out --method.normalize, .tau-plus and .hardness")
        if loss == "nt-xent" and mining != "all":
            raise UserError(f"--method.mining {mining} is for --method.loss nt-logistic and margin: nt-xent takes all")
        self.temperature, self.contrasts = temperature, loss == "nt-xent"
        self.objective = {
            "nt-xent": partial(debiased_nt_xent, temperature=temperature, tau_plus=tau_plus, hardness=hardness)
            if corrected
            else partial(nt_xent, temperature=temperature, normalize=normalize),
            "nt-logistic": partial(nt_logistic, temperature=temperature, mining=mining),
            "margin": partial(margin_triplet, margin=margin, mining=mining),
        }[loss]
        self.projector = heads.projector(projector, encoder.dim, hidden or encoder.dim, dim)

    def embed(self, batch: Batch) -> Embedded:
        """Passes both views through the encoder as one batch."""
        h1, h2 = self.encoder(torch.cat(batch.views)).chunk(2)  # (B, D) each
        return {"h1": h1, "h2": h2}

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Passes both views through the projector as one batch, then the loss (eq. 1) against all processes' embeddings."""
        h = torch.cat([embedded["h1"], embedded["h2"]])  # (2B, D)
        z1, z2 = self.projector(h).chunk(2)  # (B, dim) each
        all1, all2 = gather(z1), gather(z2)  # (N, dim) each
        loss = self.objective(z1, z2, gathered=(all1, all2), offset=rank() * len(z1))
        terms = {"mutual_information": info_nce_bound(loss.detach(), 2 * len(all1) - 1)} if self.contrasts else {}
        return Loss(loss, terms, {"z": z1.detach()})
