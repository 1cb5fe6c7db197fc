"""DIM: the representation of an image tells its own places from those of other images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank, world
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import local_infomax
from unlabeled.losses.infomax import Estimator
from unlabeled.methods.base import Comparison, Embedded, stage_shapes
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, Width, register

ADAM = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.0}
CROP = {"name": "crop", "pad": 0.0, "scale": [0.3, 1.0]}
CRITIC = (1000, 200, 1)
"""Widths of the critic of the prior (Hjelm et al. 2019, appendix)."""
GRID = 8
"""Side of the map of which an image's vector is made, at most: about that of Hjelm et al. 2019."""


def of_map(channels: int, side: int, dim: int) -> nn.Sequential:
    """Builds what makes one vector (B, dim) of a map (B, channels, H, W): two 3×3 convolutions, all places side by side, a
    linear layer (Hjelm et al. 2019, appendix, global DIM)."""
    side = min(side, GRID)
    convolutions = [nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(side), nn.Flatten(), nn.Linear(32 * side**2, dim))


@register(
    "dim-local", recipe={"views": CROP, "optimizer": ADAM}, estimator="jsd", prior_weight=0.1, code=64,
    says="Deep InfoMax, DIM(L) as published: local, with a prior (Hjelm et al. 2019).",
)  # fmt: skip
@register(
    "dim-global", recipe={"views": CROP, "optimizer": ADAM}, estimator="jsd", global_weight=1.0, local_weight=0.0,
    prior_weight=1.0, code=64, says="Deep InfoMax, DIM(G) as published: global, with a prior (Hjelm et al. 2019).",
)  # fmt: skip
@register("dim", recipe={"views": CROP, "optimizer": ADAM})
class DIM(Comparison):
    """Deep InfoMax (Hjelm et al. 2019), by encoding and dot product: of one view, what y tells of an earlier map.

    Local: the representation y is compared with each place of the map; global: with a vector of the whole map; each with
    those of other images. The prior draws σ(y) towards the uniform distribution on [0, 1]^code: a critic learns to tell the
    two apart, and the encoder to deceive it. `dim` is local, without a prior, with y = h; `dim-local` and `dim-global` are
    the paper's DIM(L) and DIM(G), with JSD and a short y = Wh, as in the published code.

    Args:
        estimator: of mutual information: `infonce`, `jsd` or `dv` (Hjelm et al. 2019, eqs. 5, 4 and 3; the first was mostly
            the best for local DIM).
        global_weight: α (1 for DIM(G), 0 for DIM(L): Hjelm et al. 2019, §4).
        local_weight: β (0 for DIM(G), 1 for DIM(L): Hjelm et al. 2019, §4).
        prior_weight: γ (1 for DIM(G), 0.1 for DIM(L): Hjelm et al. 2019, §4); above 0 it needs a `code`.
        code: length of y, by a linear layer (64: Hjelm et al. 2019, §4); 0 for h itself, which a ResNet makes of numbers ≥ 0
            alone, so that no prior fits.
        dim: of the space that wholes and places share (2048: Hjelm et al. 2019, appendix).
        hidden: width of the hidden layers that lead there (2048: Hjelm et al. 2019, appendix).
        stage: which of the encoder's stages gives the places: counted from 0, or from -1 backwards; none given, the
            second-last, or the only one (Hjelm et al. 2019 take a map of 8×8 or so within the convolutions).
    """

    n_views = 1

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        estimator: Estimator = "infonce",
        global_weight: Decay = 0.0,
        local_weight: Decay = 1.0,
        prior_weight: Decay = 0.0,
        code: Width = 0,
        dim: Count = 2048,
        hidden: Width = 2048,
        stage: int | None = None,
    ) -> None:
        super().__init__(encoder, shape)
        if not global_weight and not local_weight:
            raise UserError("global-weight and local-weight are 0, and nothing is left to compare: give one of them above 0")
        if prior_weight and not code:
            raise UserError(f"prior-weight is {prior_weight:g}, and there is no code to match: give --method.code 64")
        self.stage, channels, side = _places(encoder, shape, stage)
        self.estimator: Estimator = estimator
        self.global_weight, self.local_weight, self.prior_weight = global_weight, local_weight, prior_weight
        width = code or encoder.dim
        self.code = nn.Linear(encoder.dim, code) if code else nn.Identity()
        if local_weight:
            self.whole = heads.Shared(width, hidden or width, dim, norm=False)
            self.part = heads.Shared(channels, hidden or channels, dim, norm=True)
        if global_weight:
            self.global_whole = heads.Shared(width, hidden or width, dim, norm=False)
            self.image = of_map(channels, side, dim)
        if prior_weight:
            self.critic = heads.mlp(code, *CRITIC, norm=False)
            self.parts = {"critic": ADAM}

    @property
    def g(self) -> nn.Module:
        """The head of whole images."""
        return nn.Sequential(self.code, self.whole if self.local_weight else self.global_whole)

    def embed(self, batch: Batch) -> Embedded:
        """Passes the view through the encoder, and gives also what one of its stages made of it."""
        h, maps = self.encoder.local(batch.views[0])  # (B, D), (B, C, H, W) of each stage
        return {"h": h, "map": maps[self.stage]}  # (B, C, H, W)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes α global + β local + γ prior (eq. 8), each where its weight is not 0."""
        y, terms, rivals = self.code(embedded["h"]), dict[str, Tensor](), dict[str, Tensor]()  # (B, code or D)
        if self.global_weight:
            z, image = self.global_whole(y), self.image(embedded["map"])  # (B, dim) each
            terms["global"] = self._told(z, image[:, None])
        if self.local_weight:
            z, parts = self.whole(y), self.part(embedded["map"].flatten(2).mT)  # (B, dim), (B, H·W, dim)
            terms["local"] = self._told(z, parts)
        if self.prior_weight:
            terms["prior"], rivals["critic"] = self._prior(y.float().sigmoid(), at)
        weights = {"global": self.global_weight, "local": self.local_weight, "prior": self.prior_weight}
        weighted = [term if weights[name] == 1 else weights[name] * term for name, term in terms.items()]
        total = torch.stack(weighted).sum() if len(weighted) > 1 else weighted[0]
        logged = {name: term.detach() for name, term in {**terms, **rivals}.items()} if len(terms) > 1 else {}
        return Loss(total, logged, {"z": z.detach()}, rivals)

    def _told(self, whole: Tensor, parts: Tensor) -> Tensor:
        """What the wholes (B, dim) do not tell of their parts (B, L, dim), among those of all processes; the mean in the log
        of `dv` is over all pairs."""
        if self.estimator == "dv":
            return local_infomax(gather(whole), gather(parts), estimator="dv")
        offset = rank() * len(parts)
        return local_infomax(whole, parts, estimator=self.estimator, gathered=gather(parts), offset=offset)

    def _prior(self, y: Tensor, at: Progress) -> tuple[Tensor, Tensor]:
        """What the encoder minimises, -log D(y), and the critic, -log D(u) - log(1 - D(y)), with u uniform (eq. 7; the
        former as in the published code, whose gradient does not vanish where the critic is sure)."""
        uniform = torch.rand(world() * len(y), y.shape[1], generator=at.generator())[rank() * len(y) :][: len(y)]
        real, made, deceived = (self.critic(x).float() for x in (uniform.to(y), y.detach(), y))  # (B, 1)
        return F.softplus(-deceived).mean(), (F.softplus(-real) + F.softplus(made)).mean()


def _places(encoder: Encoder, shape: DataShape, stage: int | None) -> tuple[int, int, int]:
    """Which stage gives the places, its channels and its side.

    Raises:
        UserError: the encoder has no such stage, or shows none.
    """
    maps = stage_shapes(encoder, shape)
    if stage is not None and not -len(maps) <= stage < len(maps):
        span = f"{-len(maps)} to {len(maps) - 1}"
        raise UserError(f"stage is {stage}, and this encoder has {len(maps)}: give a --method.stage from {span}")
    stage = max(-2, -len(maps)) if stage is None else stage
    return stage, maps[stage][0], maps[stage][1]
