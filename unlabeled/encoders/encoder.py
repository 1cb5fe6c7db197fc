"""What is learned: a backbone with all that happens to a sample before it, and to a representation after it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from unlabeled.compute.gradients import without_strides
from unlabeled.encoders.tokens import visible
from unlabeled.errors import UserError
from unlabeled.parts.clustering import whitening
from unlabeled.registry import Choice


class Front(Protocol):
    """What happens to samples before the backbone: scaled, resized, normalised, channels chosen. A module.

    Attributes:
        kind: of the samples, with the options by which they are made.
        channels: of a sample.
        size: of the views that it was trained on, along each other axis.
        tta: how many forms of a sample are encoded in evaluation mode; the representation is their mean.

    One that treats samples differently in evaluation mode says so by `follows_mode = True`: a momentum teacher (`Ema`) then
    treats them as its student does.
    """

    kind: Choice
    channels: int
    size: int
    tta: int

    def __call__(self, x: Tensor) -> Tensor:
        """Raw samples (B, ...) to what the backbone takes.

        Raises:
            UserError: of another shape.
        """
        ...

    def others(self, x: Tensor) -> list[Tensor]:
        """Returns other forms of what the backbone takes: tta - 1 of them."""
        ...

    def check(self, backbone: nn.Module, views: Sequence[Tensor] = ()) -> None:
        """Checks whether the backbone takes every form, and views like these.

        Raises:
            UserError: it does not.
        """
        ...


ROUNDING = 1e-3
"""By which a float may lie outside its range."""


def in_range(x: Tensor, integer: torch.dtype, full: int, least: float, nouns: str, *, check: bool) -> Tensor:
    """Returns raw samples as floats in [least, 1].

    Args:
        x: integers, which are divided by `full`, or floats.
        integer: the one type of integers whose range is known; any other may hold anything.
        full: what 1 is in these integers.
        least: of floats.
        nouns: what the samples are called.
        check: whether floats are looked at, which takes a moment.

    Raises:
        UserError: integers of another type, or floats outside the range by more than rounding.
    """
    name, numbers = str(integer).removeprefix("torch."), f"floats in [{least:g}, 1]"
    if x.dtype == integer:
        return x.float() / full
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise UserError(
            f"the {nouns} are {kind}, whose range nobody knows: give {name}, or {numbers} (divided by {full}, if they count "
            "up to that)"
        )
    tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]
    if check and x.numel() and not tracing:
        low, high = (float(value) for value in x.detach().aminmax())
        if low < least - ROUNDING or high > 1 + ROUNDING:
            raise UserError(
                f"the {nouns} hold floats from {low:.4g} to {high:.4g}, and this encoder takes {name}, or {numbers}: divide "
                f"by {full} what counts up to that, and leave out a normalisation, as the encoder has its own"
            )
    return x.float()


class Encoder(nn.Module):
    """f: raw samples (B, ...) of one kind -> representation h (B, dim).

    Attributes:
        front: what happens to samples before the backbone.
        dim: length of h.
        notes: what was changed in the backbone, for the run to say.
        whitening: fixed, what the representation goes through last; None in training, and where it was not asked for.
        fixed: modules that stay in evaluation mode while the others train, see `freeze`.
    """

    whitening: nn.Linear | None
    follows_mode = True

    def __init__(self, front: nn.Module, backbone: nn.Module, dim: int, notes: list[str] | None = None) -> None:
        super().__init__()
        self.front: Any = front
        self.backbone, self.dim, self.notes = backbone, dim, notes or []
        self.whitening = None
        self.fixed: tuple[str, ...] = ()
        without_strides(backbone)

    def forward(self, x: Tensor) -> Tensor:
        """Maps samples to representations.

        Raises:
            UserError: samples of another shape.
        """
        x = self.front(x)
        return self.represented(self.backbone(x), x)

    def local(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Maps samples to representations, and to what each stage of the backbone made on the way there, in one pass.

        Args:
            x: (B, ...) samples.
            keep: (B, K) int64, the places of the first stage that go in, of a backbone of tokens; None for all.

        Returns:
            h (B, dim), as `forward` gives it, and the maps (B, C, *places) of the stages, first to last; (B, C, K) where
            places were chosen.

        Raises:
            UserError: as `forward`; or a backbone that does not give its stages, or cannot leave places out.
        """
        backbone: Any = self.backbone
        if not getattr(backbone, "shows_stages", hasattr(backbone, "forward_intermediates")):
            raise UserError("this encoder does not show its stages: give another --encoder, such as resnet18")
        x = self.front(x)
        if keep is not None:
            h, maps = visible(backbone, x, keep)
            return self.represented(h, x), maps
        last, maps = backbone.forward_intermediates(x)
        return self.represented(backbone.forward_head(last), x), maps

    def represented(self, h: Tensor, x: Tensor) -> Tensor:
        """Returns what is judged: in evaluation mode the mean over the forms of each sample; whitened in float32, if asked
        for.

        Args:
            h: (B, dim), what the backbone gives of x.
            x: what the front gives.
        """
        if self.front.tta > 1 and not self.training:
            h = (h + sum(self.backbone(other) for other in self.front.others(x))) / self.front.tta
        if self.whitening is None:
            return h
        with torch.autocast(h.device.type, enabled=False):
            return self.whitening(h.float())  # type: ignore[no-any-return]

    def freeze(self, stages: int, x: Tensor) -> None:
        """Freezes whatever the map of the given stage depends on: those weights, the statistics that their norms use, and
        the units that they would drop, as `eval` has them.

        Args:
            stages: how many, from the first; as `local` gives them.
            x: (B, ...) samples, to find by a pass what a stage is made of.

        Raises:
            UserError: fewer stages than that, or a backbone that does not show them.
        """
        names, weights = zip(*self.backbone.named_parameters(prefix="backbone"), strict=True)
        mode = self.training
        with torch.enable_grad():
            maps = self.eval().local(x)[1]
            if not 1 <= stages <= len(maps):
                raise UserError(f"{stages} frozen stages: this encoder has {len(maps)}, so give 1 to {len(maps)}")
            found = torch.autograd.grad(maps[stages - 1].sum(), weights, allow_unused=True)
        below = {name for name, gradient in zip(names, found, strict=True) if gradient is not None}
        for name, weight in zip(names, weights, strict=True):
            weight.requires_grad_(weight.requires_grad and name not in below)
        of = {name: {f"{name}.{p}" for p, _ in module.named_parameters()} for name, module in self.named_modules()}
        self.fixed = tuple(name for name, mine in of.items() if mine and mine <= below)
        self.train(mode)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of all modules but the fixed ones."""
        super().train(mode)
        for name in self.fixed:
            self.get_submodule(name).eval()
        return self

    def whitened(self, h: Tensor | None = None) -> Encoder:
        """Returns a copy whose representation is PCA-whitened: centred, turned to its principal directions, each scaled to
        variance 1. Trained representations vary most along few directions, which are then all that nearest neighbours see
        (Jégou and Chum 2012, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening").

        Args:
            h: (n, dim) representations of many samples, as this encoder gives them; None: the weights come later.
        """
        copied = copy.deepcopy(self)
        layer = nn.Linear(self.dim, self.dim).requires_grad_(False).to(next(self.parameters()).device)
        if h is not None:
            centre, matrix = whitening(h, self.dim)
            layer.weight.copy_(matrix.T)
            layer.bias.copy_(-centre @ matrix)
        copied.whitening = layer
        return copied

    def with_tta(self, tta: int) -> Encoder:
        """Returns a copy that encodes 1, 2 or 4 forms of a sample that it judges, as descriptors are averaged over
        reflections and scales (Simonyan and Zisserman 2015, "Very Deep Convolutional Networks", appendix B).

        Raises:
            UserError: a front that has no other forms, or a network that does not take them.
        """
        copied = copy.deepcopy(self)
        copied.front.tta = tta
        copied.front.check(copied.backbone)
        return copied

    def plain(self) -> Encoder:
        """Returns a copy as it was trained: of one form of each sample, without whitening, and no stage fixed."""
        copied = copy.deepcopy(self)
        copied.whitening, copied.front.tta, copied.fixed = None, 1, ()
        return copied

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        for name in ("mean", "std"):  # where runs of version 0.1 have what the front holds
            if f"{prefix}{name}" in state_dict:
                state_dict[f"{prefix}front.{name}"] = state_dict.pop(f"{prefix}{name}")
        super()._load_from_state_dict(state_dict, prefix, *others)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state of an encoder of version 0.1 with the names of today; that of today as it is."""
    return {f"front.{name}" if name in ("mean", "std") else name: value for name, value in tensors.items()}
