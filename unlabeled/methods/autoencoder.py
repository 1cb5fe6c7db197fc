"""Autoencoders: what a short code keeps of an image is what the image can be drawn from again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method, stage_shapes
from unlabeled.methods.super_resolution import psnr
from unlabeled.parts.decoders import MirrorDecoder, PatchMirror
from unlabeled.registry import register

ADAM = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.0}
"""Adam's own rate (Kingma & Ba 2015, algorithm 1); Vincent et al. 2008 choose that of gradient descent for each data set."""


@register("dae", recipe={"views": "corrupted", "optimizer": ADAM}, says="Denoising autoencoder (Vincent et al. 2008).")
@register("ae", recipe={"views": "none", "optimizer": ADAM})
class Autoencoder(Method):
    """Autoencoder; with the policy `corrupted`, Extracting and Composing Robust Features with Denoising Autoencoders
    (Vincent et al. 2008), §2.3.

    The encoder makes h of the image, or of the image with noise, and a decoder draws the image itself of h alone. The loss
    is the mean squared error against the image as it is, in pixels that the backbone sees: each channel normalised by the
    data's mean and deviation. The log has the peak signal-to-noise ratio, in dB.

    The decoder is the encoder's mirror: the stages of a convolutional network in reverse, as many blocks as a ViT has, and
    for a network that shows no stages one linear layer. It has no options of its own. The paper trains
    layer after layer, with tied weights: here all are trained at once, and nothing is tied.
    """

    n_views = None
    adds_up = True

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__(encoder, shape)
        self.decoder = mirrored(encoder, shape, encoder.dim)

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are not one image, or one beside the same with noise.

        Raises:
            UserError: others.
        """
        super().check(views, targets)
        sides = {tuple(view.shape[2:]) for view in views}
        if len(views) > 2 or sides != {(self.shape.size, self.shape.size)}:
            raise UserError(
                "the method draws an image from its code, or from that of the same image with noise, and these views are "
                "others: give --views none, or --views corrupted"
            )

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the mean squared error against the image without noise, which is the last view."""
        true, front = batch.views[-1], self.encoder.front
        made = self.made(batch)
        return Loss(((made - true) / front.std).square().mean(), {"psnr": psnr(made.detach(), true)})

    def made(self, batch: Batch) -> Tensor:
        """Returns what is drawn of the first view's representation, (B, C, S, S), about [0, 1]."""
        front = self.encoder.front
        made: Tensor = self.decoder(self.encoder(batch.views[0])).float() * front.std + front.mean
        return made

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the images, with noise where there is some, and what is drawn of their representations."""
        noised = {"noised": batch.views[0]} if len(batch.views) == 2 else {}
        return {"true": batch.views[-1], **noised, "reconstructed": self.made(batch).clamp(0, 1)}


def mirrored(encoder: Encoder, shape: DataShape, encoded: int) -> nn.Module:
    """Builds what draws images (B, C, S, S) of codes (B, encoded), the mirror of an encoder: of a ViT `PatchMirror`, of a
    network whose stages are maps `MirrorDecoder`, of any other one linear layer."""
    backbone = encoder.backbone
    if isinstance(backbone, VisionTransformer):
        network: Any = backbone
        heads, side = network.blocks[0].attn.num_heads, network.patch_embed.patch_size[0]
        return PatchMirror(encoded, network.embed_dim, len(network.blocks), heads, side, shape.channels, shape.size)
    try:
        stages = stage_shapes(encoder, shape)
    except UserError:  # it shows none
        stages = []
    if stages and all(len(stage) == 3 for stage in stages):
        return MirrorDecoder(encoded, stages, shape.channels, shape.size)
    image = (shape.channels, shape.size, shape.size)
    return nn.Sequential(nn.Linear(encoded, shape.channels * shape.size**2), nn.Unflatten(1, image))
