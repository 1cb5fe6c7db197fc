"""The network of CPC for sound: strided convolutions over samples, and a GRU over the frames that they make.

Zeros at the end are padding, of samples and of frames alike: digital silence there says nothing, and a recording that is
padded is encoded as it is without. What comes before the network may therefore scale sound, and not shift it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled import registry
from unlabeled.batch import Fields
from unlabeled.encoders.encoder import Encoder, in_range
from unlabeled.encoders.own import build_own
from unlabeled.errors import UserError
from unlabeled.own import is_given
from unlabeled.registry import Choice, Count, register


def valid_length(x: Tensor) -> Tensor:
    """Returns (B,) int64: the length of each (C, T) of x (B, C, T) less the zeros at its end; 0 where all are zero."""
    places = torch.arange(1, x.shape[2] + 1, device=x.device)
    return (x.ne(0).any(1) * places).amax(1)


def mean_and_deviation(x: Tensor, length: Tensor) -> Tensor:
    """Returns (B, 2C): mean and standard deviation of x (B, C, L) over the first `length` (B,) places of each; 0 is 1."""
    inside = torch.arange(x.shape[2], device=x.device) < length[:, None, None]  # (B, 1, L)
    count = length.clamp(min=1)[:, None]
    mean = x.where(inside, 0).sum(2) / count
    variance = (x - mean[:, :, None]).where(inside, 0).square().sum(2) / count
    return torch.cat([mean, variance.clamp(min=_LEAST).sqrt()], 1)


_LEAST = 1e-8
"""Of a variance: the gradient of a root at 0 is infinite. Not added, as a graph in ONNX loses what adds so little."""


def strides_for(rate: int) -> tuple[int, int, int]:
    """Returns strides that make frames of about 10 ms, the paper's, of `rate` samples a second.

    Ours: the first takes 1.25 ms, where the paper's at 16 kHz takes 0.3 ms, so that the cost of the others, which have all
    the channels, is a quarter and does not depend on the rate.
    """
    return max(1, round(rate / 800)), 4, 2


class Convolution(nn.Module):
    """Convolves with filters that span two strides, normalises each frame over its channels, and rectifies.

    A frame is then a linear function of two neighbouring blocks of `stride` earlier ones, and all are one matrix product:
    less work for a processor than `Conv1d` and the changes of layout for the norm.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.linear = nn.Linear(2 * stride * channels, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, (L + 1) · stride, channels) to (B, L, width)."""
        blocks = x.reshape(x.shape[0], -1, self.stride * x.shape[2])  # (B, L + 1, stride · channels)
        pairs = torch.cat([blocks[:, :-1], blocks[:, 1:]], 2)  # (B, L, 2 · stride · channels)
        return F.relu(self.norm(self.linear(pairs)))


@register("cpc")
class CPCNet(nn.Module):
    """g_enc and g_ar of CPC's experiment on audio (van den Oord et al. 2018, section 3.1): strided convolutions with ReLUs,
    filters twice as long as the strides, and a GRU over the frames of 10 ms that they make.

    Each convolution is followed by a norm over the channels of one frame, as in the code published with Rivière et al.
    2020, "Unsupervised Pretraining Transfers Well Across Languages". No frame then depends on padding or on other
    recordings, as it would with batch norm.

    The representation is the mean and the standard deviation of the context over time (Snyder et al. 2018, "X-Vectors:
    Robust DNN Embeddings for Speaker Recognition": statistics pooling); with the mean alone digits were told apart less
    well.

    Args:
        width: channels of each convolution (256: Rivière et al. 2020, published code; the paper's 512 take four times as
            long for a step on a processor).
        context: units of the GRU (256: the paper).
        strides: of the convolutions; their product, `hop`, is the samples of a frame. (5, 4, 2, 2, 2) is the paper's, at
            16 kHz; see `strides_for` for ours.
    """

    def __init__(self, *, width: Count = 256, context: Count = 256, strides: tuple[int, ...] = (10, 4, 2)) -> None:
        super().__init__()
        self.hop, self.span = math.prod(strides), 1  # samples from a frame to the next; samples that a frame sees
        for stride in reversed(strides):
            self.span = (self.span + 1) * stride
        channels = [1, *[width] * (len(strides) - 1)]
        self.convolutions = nn.Sequential(*(Convolution(c, width, s) for c, s in zip(channels, strides, strict=True)))
        self.gru = nn.GRU(width, context, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps sound (B, 1, T) in [-1, 1], or scaled, to h (B, 2 · context)."""
        return self.forward_head(self.forward_intermediates(x)[0])

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the context, and latents and context: z (B, width, L), c (B, context, L), L = ⌈T / hop⌉, zero where x is
        padding.

        Frame t is centred on samples t · hop to (t + 1) · hop; what it sees beyond the ends is silence.
        """
        frames = (x.shape[2] + self.hop - 1) // self.hop
        before = (self.span - self.hop) // 2
        after = (frames - 1) * self.hop + self.span - before - x.shape[2]
        z = self.convolutions(F.pad(x, (before, after)).mT)  # (B, L, width)
        c = self.gru(z)[0]  # (B, L, context)
        valid = (valid_length(x).clamp(min=1) + self.hop - 1) // self.hop  # (B,); of silence one frame is left
        padding = torch.arange(frames, device=x.device) >= valid[:, None]  # (B, L)
        z, c = (maps.masked_fill(padding[:, :, None], 0).mT for maps in (z, c))
        return c, [z, c]

    def forward_head(self, last: Tensor) -> Tensor:
        """Takes mean and deviation of the context (B, context, L) over what is no padding: (B, 2 · context)."""
        return mean_and_deviation(last, valid_length(last))


class SoundFront(nn.Module):
    """Recordings (B, 1, T), int16 or float in [-1, 1], to ones whose training samples have a mean square of 1.

    Attributes:
        kind: of the samples: rate and seconds.
        channels: 1.
        size: T of the longest recording.
        eval_size: the same.
        tta: 1, as there are no other forms of a recording.
    """

    scale: Tensor  # () > 0

    def __init__(self, kind: Choice, scale: float) -> None:
        super().__init__()
        self.kind, self.channels, self.tta = kind, 1, 1
        self.size = self.eval_size = max(1, round(kind.options["rate"] * kind.options["seconds"]))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, 1, T) to (B, 1, T), of any T.

        Raises:
            UserError: not three dimensions, more than one channel, or, in evaluation mode, values of another range.
        """
        if x.ndim != 3 or x.shape[1] != 1:
            raise UserError(
                f"this encoder takes recordings of shape (B, 1, T), and got {tuple(x.shape)}: give one channel, at "
                f"{self.kind.options['rate']:,} samples a second"
            )
        x = in_range(x, torch.int16, 32768, -1.0, "recordings", check=not self.training)
        return x / self.scale

    def others(self, x: Tensor) -> list[Tensor]:
        """Returns none."""
        return []

    def check(self, backbone: nn.Module, views: Sequence[Tensor] = ()) -> None:
        """Refuses test-time augmentation."""
        if self.tta > 1:
            raise UserError(f"tta is {self.tta}, and recordings have no other forms to encode: leave it out")


def build_encoder(choice: Choice, kind: Choice, sample: Fields | None) -> Encoder:
    """Builds the untrained network that `choice` names, of those for sound.

    Args:
        choice: name and options; `strides` are by default those of the rate.
        kind: of the samples: rate and seconds.
        sample: of the training data, for its loudness; None: it comes with the weights.

    Raises:
        UserError: an unknown name or option.
    """
    if is_given("encoders", choice.name):
        front = _front(kind, sample)
        return Encoder(front, *build_own(choice, front.channels, [torch.zeros(1, 1, front.size)]))
    if choice.name not in (known := registry.names("encoders")):
        raise UserError(
            f"{choice.name!r} is no network for recordings, of which there {'is' if len(known) == 1 else 'are'} "
            f"{', '.join(known)}: leave --encoder out, or give --encoder {known[0]}; one of your own: give its file with "
            "--plugin FILE"
        )
    strides = {"strides": strides_for(kind.options["rate"])} if choice.name == "cpc" else {}
    resolved = registry.get("encoders", choice.name).resolve({**strides, **choice.options})
    backbone = registry.build("encoders", resolved)
    with torch.no_grad():
        dim = backbone(torch.zeros(1, 1, 4 * backbone.hop)).shape[1]
    frames = f"frames of {1000 * backbone.hop / kind.options['rate']:.3g} ms"
    return Encoder(_front(kind, sample), backbone, dim, [frames])


def _front(kind: Choice, sample: Fields | None) -> SoundFront:
    """Scales by the loudness of the sample."""
    scale = 1.0
    if sample is not None:
        square = (sample["sound"].float() / 32768).square().sum() / sample["length"].sum().clamp(min=1)
        scale = max(float(square.sqrt()), 1e-4)
    return SoundFront(kind, scale)
