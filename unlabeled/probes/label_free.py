"""Is an encoder healthy? Asked of its embeddings alone, beside those of the same network untrained; no label is used."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from unlabeled import registry
from unlabeled.batch import DataShape, Fields, moved
from unlabeled.data import Source
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.probes import health
from unlabeled.probes.base import Figure
from unlabeled.probes.health import Look, fewest_dimensions
from unlabeled.probes.projection import project, projector_of
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice, register
from unlabeled.words import counted

Array = np.ndarray[Any, Any]
State = Literal["healthy", "complete collapse", "dimensional collapse", "under-trained"]

DEFAULT = {"views": "simclr"}
"""Where neither run nor user says which: crops, brightness, colour and blur."""

TWINS = 3
"""Untrained networks to compare with."""

BETTER = 0.9
"""A trained network's `view_variance` is below this share of the best untrained one's."""

ADVICE: dict[State, str] = {
    "complete collapse": "without negatives a predictor, the stop-gradient and an EMA momentum near 1 prevent it, else try "
    "a smaller learning rate",
    "dimensional collapse": "what usually helps: a larger batch or more negatives, a smaller learning rate, views that are "
    "less strong",
}
"""What helps in general, the worst first."""

FEWEST, ROUGH, BATCH = 8, 200, 256


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word for the state of an encoder, why, and what usually helps."""

    state: State
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}{'; ' if self.advice else ''}{self.advice}"


@register("health")
class Health:
    """Label-free health of h and, where the method has a projector, of z = g(h), on images of the test split.

    Figures, each followed by `h` or `z`, as N images in D dimensions give them; a share is in [0, 1]:

    - `rankme share`: RankMe over min(N, D), a share. More is better, up to a point: it is comparable between runs of one
      shape of network on the same data only.
    - `rankme` and `effective rank`: dimensions in use, without and with centring, in [1, min(N, D)].
    - `alignment`: mean squared distance of an image's two views at unit length, in [0, 4]; less is better aligned.
    - `uniformity`: in [-8, 0]; less is more uniform.
    - `view variance`: distance of an image's two views over that of views of two images: 0 is best, 1 knows no image again.
    - `information`: lower bound on the mutual information of two views, in nats, at most log N.
    - `std`: mean standard deviation of a dimension at unit length, 1/√D if isotropic. `std ratio` is that over 1/√D.
    - `dead`: share of dimensions that say the same of all images.

    The verdict compares with the same network at `TWINS` random initialisations, its batch norms untouched by data:

    1. *complete collapse*: h or z has a spread below a tenth of an isotropic one, unless its spread and rank are those of
       the untrained network (at least half), whose biases may outweigh what they are added to. At less than a thousandth it
       is one in any case.
    2. *dimensional collapse*: an effective rank of h or z under √D/3, but at least 6 and at most 8, and never more than a
       quarter of D. Ten classes that fall on ten points use 9, and that is no collapse; a method that was told K classes
       may do with 0.9 (K - 1).
    3. *under-trained*: the view variance of h is not clearly below that of the untrained network (0.9 of the least).
    4. else *healthy*: which promises no accuracy, as the features may keep what is of no use.

    Intervals are those of the delete-a-group jackknife over images.

    Thresholds were chosen on scikit-learn's digits.

    Args:
        images: of the test split looked at, at most (RankMe's authors take 25,600; what more images change is small as long
            as they are several times the dimensions).
        views: policy that draws the views; empty for the run's own, or SimCLR's where it is not known or draws no two
            different views.
        temperature: of the bound on mutual information.
    """

    on_images: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_encoder: ClassVar[bool] = True
    own_views: ClassVar[bool] = True
    """Whether it draws the run's own views, unless others are named."""

    def __init__(self, *, images: registry.Count = 2048, views: str = "", temperature: registry.Positive = 0.1) -> None:
        self.images, self.views, self.temperature = images, views, temperature
        self.notes_: list[str] = []

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Learns nothing from the training images at `indices` (N,): makes the untrained networks. `y` is not read.

        Raises:
            UserError: raw features, which have no network.
        """
        if subject.encoder is None:
            raise UserError("health judges an encoder, and raw features have none: leave out --against raw")
        self.subject_, self.seed_ = subject, seed
        told = subject.method is not None and subject.method().needs_labels
        self.told_ = len(source.classes) if told else 0
        encoder, projector = subject.encoder.plain(), projector_of(subject)
        self.networks_ = [(encoder, projector)]
        for twin in range(TWINS):
            fresh, head = untrained(encoder, projector, seed + twin)
            if subject.fresh is not None:
                fresh = subject.fresh(seed + twin).eval()
            self.networks_.append((fresh.to(subject.device), None if head is None else head.to(subject.device)))
        return self

    def score(self, source: Source, indices: Array, y: Array) -> dict[str, Figure]:
        """Returns figures (see the class) of the images at `indices` (M,); sets `verdict_`. `y` is not read.

        Raises:
            UserError: too few images, or features that are not finite.
        """
        if len(indices) < FEWEST:
            raise UserError(
                f"health needs {FEWEST} images or more to look at, and there are {len(indices)}: give more --data"
            )
        taken = np.sort(np.random.default_rng(self.seed_).permutation(indices)[: self.images])
        self.scored_ = len(taken)
        self.notes_ = []
        policy = self._policy(source, taken)
        looks: dict[str, list[Look]] = {"h": [], "z": []}
        figures: dict[str, Figure] = {}
        for network, (images, first, second) in enumerate(self._embedded(source, taken, policy)):
            for name, (x, a, b) in self._embeddings(network, images, first, second):
                _check_finite(x, a, b)
                looks[name].append(_look(x, a, b))
                if network == 0:
                    figures |= {f"{key} {name}": value for key, value in self._figures(x, a, b).items()}
        self.verdict_ = judge({name: found for name, found in looks.items() if found}, self.told_)
        if not looks["z"]:
            self.notes_.append("health: the method has no projector, so only h is judged")
        if len(taken) < ROUGH:
            self.notes_.append(f"health: {counted(len(taken), 'images', 'are')} few, the verdict is a rough one")
        said = str(self.verdict_) if self.subject_.trained else f"not trained: {self.verdict_.reason}"
        self.notes_.append(f"health of the {self.subject_.name} encoder: {said}")
        return figures

    def _figures(self, x: Tensor, a: Tensor, b: Tensor) -> dict[str, Figure]:
        """Of the images and of both views (M, D)."""
        dim = min(x.shape)

        def bound(first: Tensor, second: Tensor) -> float:
            return health.mutual_information(first, second, self.temperature)

        def share(z: Tensor) -> float:
            return health.rankme(z) / dim

        def std(z: Tensor) -> float:
            return health.std_ratio(z) / math.sqrt(z.shape[1])

        asked: dict[str, tuple[Callable[..., float], Sequence[Tensor], bool]] = {
            "rankme share": (share, [x], True),
            "rankme": (health.rankme, [x], False),
            "effective rank": (health.effective_rank, [x], False),
            "alignment": (health.alignment, [a, b], False),
            "uniformity": (health.uniformity, [x], False),
            "view variance": (health.view_variance, [a, b], False),
            "information": (bound, [a, b], False),
            "std": (std, [x], False),
            "std ratio": (health.std_ratio, [x], False),
            "dead": (health.dead_share, [x], True),
        }
        return {
            name: Figure(figure(*rows), health.jackknife(figure, *rows), share=part)
            for name, (figure, rows, part) in asked.items()
        }

    def _policy(self, source: Source, taken: Array) -> Any:
        """What draws the views; another than asked for if that draws two that are the same."""
        assert self.subject_.encoder is not None
        shape = DataShape(
            len(source),
            source.channels,
            self.subject_.encoder.front.size,
            len(source.classes),
            source.invariances,
            source.kind.name,
        )
        own = self.subject_.views if self.subject_.views is not None else Choice(DEFAULT["views"])
        policy = registry.build("views", Choice(self.views) if self.views else own, shape)
        first, second = pair(policy, source.fetch(taken[:2]), torch.Generator().manual_seed(self.seed_))
        if torch.equal(first, second):
            self.notes_.append(f"health: its views are all the same picture, so those of {DEFAULT['views']} are used")
            policy = registry.build("views", Choice(DEFAULT["views"]), shape)
        return policy

    def _embedded(self, source: Source, taken: Array, policy: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """h of the images and of both views, (M, D) each, of one network after the other: all see the same views."""
        device, generator = self.subject_.device, torch.Generator().manual_seed(self.seed_)
        parts: list[list[list[Tensor]]] = [[[], [], []] for _ in self.networks_]
        with torch.no_grad():
            for start in range(0, len(taken), BATCH):
                x = moved(source.fetch(taken[start : start + BATCH]), device)
                for place, image in enumerate((x[source.field], *pair(policy, x, generator))):
                    for (encoder, _), part in zip(self.networks_, parts, strict=True):
                        part[place].append(encoder(image).float().cpu())
        for part in parts:
            images, first, second = (torch.cat(rows) for rows in part)
            yield images, first, second

    def _embeddings(self, network: int, *h: Tensor) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
        yield "h", h
        projector = self.networks_[network][1]
        if projector is not None:
            yield "z", tuple(project(projector, rows, self.subject_.device) for rows in h)


def judge(looks: dict[str, list[Look]], classes: int = 0) -> Verdict:
    """Gives the verdict on embeddings by name, `h` among them: first the network's own, then those of untrained ones.

    `classes` is how many the method was told, 0 if it saw no label.
    """
    found = [
        health.collapse(name, own, _mean(others), fewest_dimensions(own.dim, classes))
        for name, (own, *others) in looks.items()
    ]
    for kind in ADVICE:
        for one in found:
            if one is not None and one.kind == kind:
                return Verdict(kind, one.seen, ADVICE[kind])
    own, *others = looks["h"]
    least = min(o.view_variance for o in others)
    said = f"two views of an image are {own.view_variance:.2f} as far apart as views of two images, untrained {least:.2f}"
    if own.view_variance >= BETTER * least:
        return Verdict("under-trained", said, "what usually helps: gentler views, a larger learning rate")
    return Verdict("healthy", f"{said}; h uses about {own.rank:.0f} of {own.dim} dimensions")


def _mean(looks: Sequence[Look]) -> Look:
    """The spread and the rank of several networks."""
    spread, rank = (float(np.mean([getattr(one, name) for one in looks])) for name in ("spread", "rank"))
    return Look(spread, rank, math.nan, looks[0].dim)


def untrained(encoder: Encoder, projector: nn.Module | None, seed: int) -> tuple[Encoder, nn.Module | None]:
    """Copies with fresh weights, on the CPU, in evaluation mode: each layer starts as PyTorch starts it, convolutions as He
    et al. 2015 (as the encoders do), and what has no start of its own keeps its values in random order."""
    fresh, head = copy.deepcopy(encoder).cpu(), None if projector is None else copy.deepcopy(projector).cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in (m for part in (fresh, head) if part is not None for m in part.modules()):
            reset: Any = getattr(module, "reset_parameters", None)
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif reset is not None:
                reset()
            else:
                for own in module.parameters(recurse=False):
                    own.copy_(own.flatten()[torch.randperm(own.numel())].view_as(own))
    return fresh.eval(), None if head is None else head.eval()


def pair(policy: Any, x: Fields, generator: torch.Generator) -> Sequence[Tensor]:
    """Draws two views (B, ...) of samples: the first two of a draw if they are alike in kind, else the first of two
    draws."""
    drawn: list[Tensor] = policy(x, generator)[0]
    if len(drawn) > 1 and drawn[0].shape == drawn[1].shape:
        return drawn[:2]
    return [drawn[0], policy(x, generator)[0][0]]


def _look(x: Tensor, a: Tensor, b: Tensor) -> Look:
    return health.look(x, health.view_variance(a, b))


def _check_finite(*embeddings: Tensor) -> None:
    if not all(bool(e.isfinite().all()) for e in embeddings):
        raise UserError(
            "health: the features hold NaN or infinity: the run diverged; use an earlier checkpoint, or pretrain again with "
            "a smaller learning rate"
        )
