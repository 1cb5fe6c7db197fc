"""Fine-tuning: the encoder itself goes on learning from a few labelled images, and not only a classifier on top of it."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.probes.extract import Images, features

Array = np.ndarray[Any, Any]


class Finetune:
    """A copy of the encoder and a linear classifier on it, trained together on labelled images, without augmentation.

    The classifier begins at zero on features that a batch norm without weights brings to one scale (as He et al. 2022,
    "Masked Autoencoders", appendix A, for their linear classifier), so that methods with short and with long features meet
    the same learning rate. It learns faster than the encoder, which has something to lose. The encoder's batch norms see the
    labelled images' statistics. The rates follow half a cosine to zero.

    The defaults were chosen on scikit-learn's digits, with a narrow ResNet, untrained and by SimCLR, at 1% and 10% of
    the labels. Without `steps`, a handful of images would get a handful of steps.

    Args:
        epochs: passes over the labelled images.
        steps: at least so many, by more passes where few images are labelled.
        batch_size: images per step, at most; fewer where fewer are labelled. What is left of an epoch is left out.
        lr: of AdamW (Loshchilov and Hutter 2019), for the encoder.
        head_lr: for the classifier.
        weight_decay: of both.
    """

    def __init__(
        self,
        *,
        epochs: int = 25,
        steps: int = 150,
        batch_size: int = 64,
        lr: float = 3e-3,
        head_lr: float = 1e-2,
        weight_decay: float = 0.05,
    ) -> None:
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.lr, self.head_lr, self.weight_decay = lr, head_lr, weight_decay

    def fit(
        self,
        encoder: Encoder,
        source: Images,
        indices: Array,
        y: Array,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: torch.dtype = torch.float32,
    ) -> Self:
        """Learns from the images at `indices` (N,) of `source`, of classes y (N,); the encoder given stays as it is.

        Raises:
            UserError: an option out of range.
            ValueError: fewer than two images, or another number of labels.
        """
        if self.epochs < 1 or self.batch_size < 2 or min(self.lr, self.head_lr) <= 0 or self.weight_decay < 0:
            raise UserError("fine-tuning: epochs must be at least 1, batch_size 2, the learning rates above 0, the decay 0")
        if len(indices) < 2 or len(y) != len(indices):
            raise ValueError(f"fine-tuning needs two labelled images or more, got {len(indices)} and {len(y)} labels")
        self.classes_, target = np.unique(y, return_inverse=True)
        self.device_, self.precision_ = torch.device(device), precision
        with torch.random.fork_rng(devices=[self.device_] if self.device_.type == "cuda" else []):
            torch.manual_seed(seed)
            self._train(encoder, source, indices, target, np.random.default_rng(seed))
        return self

    def score(self, source: Images, indices: Array, y: Array) -> dict[str, float]:
        """Shares in [0, 1] of the images at `indices` (M,) of `source`, of classes y (M,): `top1`, and with more than 5
        classes `top5`. The only place where test images are seen."""
        logits = features(self.model_, source, device=self.device_, indices=indices, precision=self.precision_)  # (M, K)
        ranked = self.classes_[logits.topk(min(5, len(self.classes_)), dim=1).indices.numpy()]  # (M, up to 5)
        metrics = {"top1": float((ranked[:, 0] == y).mean())}
        if len(self.classes_) > 5:
            metrics["top5"] = float((ranked == y[:, None]).any(axis=1).mean())
        return metrics

    def _train(self, encoder: Encoder, source: Images, indices: Array, target: Array, rng: np.random.Generator) -> None:
        kept = copy.deepcopy(encoder).requires_grad_(True)
        norm = nn.BatchNorm1d(encoder.dim, affine=False)
        head = nn.Linear(encoder.dim, len(self.classes_))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.model_ = nn.Sequential(kept, norm, head).to(self.device_)
        batch = min(self.batch_size, len(indices))
        per_epoch = len(indices) // batch
        epochs = max(self.epochs, math.ceil(self.steps / per_epoch))
        groups = [
            {"params": list(kept.parameters()), "lr": self.lr},
            {"params": list(head.parameters()), "lr": self.head_lr},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)
        self.model_.train()
        for _ in range(epochs):
            mixed = rng.permutation(len(indices))
            for start in range(0, len(mixed) - batch + 1, batch):
                taken = mixed[start : start + batch]
                x = self._at_eval_size(source.fetch(indices[taken]).to(self.device_), kept.eval_size)  # (B, C, H, W)
                with self._autocast():
                    logits = self.model_(x)  # (B, K)
                loss = F.cross_entropy(logits.float(), torch.from_numpy(target[taken]).to(self.device_))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        self.model_.eval()

    def _at_eval_size(self, x: Tensor, size: int) -> Tensor:
        """Images as the encoder will judge them: in training mode, it does not resize by itself."""
        if x.shape[-2:] == (size, size):
            return x
        return F.interpolate(x.float() / 255, (size, size), mode="bilinear", antialias=True, align_corners=False)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device_.type, self.precision_, enabled=self.precision_ != torch.float32)
