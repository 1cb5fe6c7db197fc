"""Context encoder: what surrounds a hole says what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import masked_square
from unlabeled.methods.base import Method, map_shape
from unlabeled.parts.decoders import MapDecoder, map_norm
from unlabeled.registry import Count, Decay, Share, register
from unlabeled.views.policies.holes import GREY

ADAM = {"name": "adamw", "lr": 2e-3, "weight_decay": 0.0, "beta1": 0.5}
CRITIC = {"name": "adamw", "lr": 2e-4, "weight_decay": 0.0, "beta1": 0.5}
"""Of the published code, where the encoder's rate is ten times the critic's, for batches of 64."""
SLOPE = 0.2
"""Of the critic's leaky ReLU (published code)."""
LEAST = 4
"""Side of the critic's last map, at most (published code)."""


@register("context-encoder", recipe={"views": "holes", "optimizer": ADAM})
class ContextEncoder(Method):
    """Context Encoders: Feature Learning by Inpainting (Pathak et al. 2016), §3.

    Of each image the views hide a region; the encoder sees the mean colour in its place, and a decoder tells what was there.
    L_rec is the squared distance over what is asked for: the region, and a band around it that is seen, which counts ten
    times, so that the two join (eq. 1). L_adv is a critic's, which learns to tell the region as it is from the region as it
    was made, and sees nothing of what surrounds them: it would look for the seam (eq. 2). The encoder minimises
    λ_rec L_rec + λ_adv L_adv (eq. 3), with -log D in place of log(1 - D), as in the published code. Pixels are in [-1, 1].

    The decoder stands for the paper's, whose channels are connected over all places: h is added at every place. The paper's
    features, of an AlexNet, were learned without the critic (`--method.adversarial 0`), its pictures with it.

    Args:
        adversarial: λ_adv (0.001: Pathak et al. 2016, §4); λ_rec is 1 less it. 0 leaves the critic out.
        overlap_weight: of squares in the band that is seen (10: Pathak et al. 2016, §4).
        width: channels of the decoder, and of the critic's first layer (64: Pathak et al. 2016, published code).
    """

    n_views = 1
    adds_up = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        adversarial: Share = 0.001,
        overlap_weight: Decay = 10.0,
        width: Count = 64,
    ) -> None:
        super().__init__(encoder, shape)
        self.adversarial, self.overlap_weight = adversarial, overlap_weight
        channels, side = map_shape(encoder, shape)
        self.decoder = MapDecoder(encoder.dim, channels, width, shape.channels, shape.size / side)
        if adversarial:
            self.critic = critic(shape.channels, width, shape.size)
            self.parts = {"critic": CRITIC}

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that hide nothing.

        Raises:
            UserError: others.
        """
        super().check(views, targets)
        if "asked" not in targets:
            raise UserError("the method fills what the views hide, and these hide no region: give --views holes")

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes λ_rec L_rec + λ_adv L_adv, and what the critic minimises."""
        true, made = 2 * batch.views[0] - 1, self.made(batch)  # (B, C, S, S)
        hidden, asked = batch.targets["hidden"], batch.targets["asked"]  # (B, 1, S, S)
        weight = torch.where(hidden, 1.0, self.overlap_weight) * asked
        rec = masked_square(made, true, weight, asked)
        if not self.adversarial:
            return Loss(rec)
        real, fake, deceived = (self.critic(asked * x).float() for x in (true, made.detach(), made))  # (B, 1, h, w)
        adv = F.softplus(-deceived).mean()
        rival = F.softplus(-real).mean() + F.softplus(fake).mean()
        total = (1 - self.adversarial) * rec + self.adversarial * adv
        terms = {"reconstruction": rec.detach(), "adversarial": adv.detach(), "critic": rival.detach()}
        return Loss(total, terms, rivals={"critic": rival})

    def made(self, batch: Batch) -> Tensor:
        """Returns the whole image as the decoder makes it, (B, C, S, S) in [-1, 1], of what is not hidden."""
        x = torch.where(batch.targets["hidden"], self.encoder.front.mean, batch.views[0])
        h, maps = self.encoder.local(x)
        return self.decoder(h, maps[-1], tuple(x.shape[2:])).float().tanh()  # type: ignore[no-any-return]

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws what is seen, the hole filled, and the image itself."""
        x, hidden = batch.views[0], batch.targets["hidden"]
        filled = torch.where(hidden, (self.made(batch) + 1) / 2, x)
        return {"hole": torch.where(hidden, GREY, x), "filled": filled, "true": x}


def critic(channels: int, width: int, side: int) -> nn.Sequential:
    """Builds what tells real images (B, channels, side, side) from others: logits (B, 1, h, w), each of a part. 4×4
    convolutions of stride 2, of twice as many channels each, down to 4×4 places, as in the published code, which has batch
    norms, and one logit of all places."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
    side //= 2
    while side > LEAST:
        layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), map_norm(2 * width), nn.LeakyReLU(SLOPE)]
        width, side = 2 * width, side // 2
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))
