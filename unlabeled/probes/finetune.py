"""Fine-tuning: the encoder itself goes on learning from a few labelled images, and not only a classifier on top of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import DataShape, Progress
from unlabeled.data import Source
from unlabeled.encoders.classifier import Classifier
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.probes.base import Array, Figure, binomial
from unlabeled.probes.classified import Classified, classified
from unlabeled.probes.extract import features
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice, build, register
from unlabeled.training.batches import Drawn
from unlabeled.training.step import Step
from unlabeled.views.view import Views
from unlabeled.words import counted


@register("finetune")
class Finetune:
    """A copy of the encoder and a linear classifier on it, trained together on labelled images; `random` is from scratch,
    with an initialisation of its own for each draw of the labels.

    The classifier begins at zero on features that a batch norm without weights brings to one scale (as He et al. 2022,
    "Masked Autoencoders", appendix A, for their linear classifier), so that methods with short and with long features meet
    the same learning rate. It learns faster than the encoder, which has something to lose. The encoder's batch norms see the
    labelled images' statistics. The rates follow half a cosine to zero.

    The defaults were chosen on scikit-learn's digits, with a narrow ResNet, untrained and by SimCLR, at 1% and 10% of
    the labels. Without `steps`, a handful of images would get a handful of steps.

    With `frozen`, the first stages stay as pretraining left them and the rest learns from a few labels of each class: the
    semi-supervised curve of Gidaris et al. 2018, "Unsupervised Representation Learning by Predicting Image Rotations", §3.1.
    An untrained encoder has nothing to keep, and learns whole: from scratch, as in that figure.

    Args:
        epochs: passes over the labelled images.
        steps: at least so many, by more passes where few images are labelled.
        batch_size: images per step, at most; fewer where fewer are labelled. What is left of an epoch is left out.
        lr: of AdamW (Loshchilov and Hutter 2019), for the encoder.
        head_lr: for the classifier.
        weight_decay: of both.
        views: policy of one view that augments the images; "none" shows them as they are judged.
        frozen: stages that do not learn, from the first, as `linear-layers` counts them: 2 are a ResNet's conv1 and conv2.
    """

    on_images: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_encoder: ClassVar[bool] = True
    draws: ClassVar[int] = 3

    def __init__(
        self,
        *,
        epochs: int = 25,
        steps: int = 150,
        batch_size: int = 64,
        lr: float = 3e-3,
        head_lr: float = 1e-2,
        weight_decay: float = 0.05,
        views: str = "none",
        frozen: int = 0,
    ) -> None:
        self.epochs, self.steps, self.batch_size, self.frozen = epochs, steps, batch_size, frozen
        self.lr, self.head_lr, self.weight_decay, self.views = lr, head_lr, weight_decay, views
        self.notes_: list[str] = []
        self.classified_: Classified

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Learns from the images at `indices` (N,) of `source`, of classes y (N,); the subject's encoder stays as it is.

        Raises:
            UserError: an option out of range, or views that are not one.
            ValueError: raw features, fewer than two images, or another number of labels.
        """
        if subject.encoder is None:
            raise ValueError("raw features cannot be fine-tuned")
        below = min(self.weight_decay, self.frozen) < 0 or min(self.lr, self.head_lr) <= 0
        if self.epochs < 1 or self.batch_size < 2 or below:
            raise UserError(
                "fine-tuning: epochs must be at least 1, batch_size 2, the learning rates above 0, the decay and frozen 0"
            )
        if len(indices) < 2 or len(y) != len(indices):
            raise ValueError(
                f"fine-tuning needs two labelled images or more, got {len(indices)} and {counted(len(y), 'labels')}"
            )
        self.classes_, target = np.unique(y, return_inverse=True)
        self.device_, self.precision_ = torch.device(subject.device), subject.precision
        with torch.random.fork_rng(devices=[self.device_] if self.device_.type == "cuda" else []):
            torch.manual_seed(seed)
            self._train(subject, source, indices, target, seed)
        return self

    def score(self, source: Source, indices: Array, y: Array) -> Mapping[str, Figure]:
        """Returns shares in [0, 1] of the images at `indices` (M,) of `source`, of classes y (M,): `top1`, and with more
        than 5 classes `top5`. The only place where test images are seen."""
        logits = self._logits(source, indices)
        self.classified_ = classified(torch.from_numpy(y), logits.double().softmax(1), torch.from_numpy(self.classes_))
        metrics = {"top1": float(self.classified_.right.mean())}
        if len(self.classes_) > 5:
            ranked = self.classes_[logits.topk(5, dim=1).indices.numpy()]
            metrics["top5"] = float((ranked == y[:, None]).any(axis=1).mean())
        return {name: Figure(value, binomial(value, len(y))) for name, value in metrics.items()}

    def predict(self, source: Source, indices: Array) -> Array:
        """Returns the class of the images at `indices` (M,) of `source`: (M,), of those that `fit` was given."""
        predicted: Array = self.classes_[self._logits(source, indices).argmax(1).numpy()]
        return predicted

    def _logits(self, source: Source, indices: Array) -> Tensor:
        """Of the images at `indices` (M,): (M, K) of `classes_`."""
        return features(self.model_, source, device=self.device_, indices=indices, precision=self.precision_)

    def _train(self, subject: Subject, source: Source, indices: Array, target: Array, seed: int) -> None:
        """Takes the loop's own step, of cross-entropy with the labels."""
        encoder = subject.beginning(seed)
        size = encoder.front.eval_size
        shape = DataShape(
            len(indices), source.channels, size, len(self.classes_), source.invariances, source.kind.name
        )  # fmt: skip
        views = self._views(shape, source, indices)
        encoder = encoder.plain().requires_grad_(True)
        if self.frozen and subject.trained:
            encoder.freeze(self.frozen, source.seen(indices[:1]).to(self.device_))
        method: Method = build("methods", Choice("supervised", {"scaled": True}), encoder, shape).to(self.device_)
        batch = min(self.batch_size, len(indices))
        per_epoch = len(indices) // batch
        total = max(self.epochs, math.ceil(self.steps / per_epoch)) * per_epoch
        rule = Choice("adamw", {"lr": self.lr, "weight_decay": self.weight_decay})
        optimizers = Optimizers(method, rule, {"classifier": {"lr": self.head_lr}}, scaling="none")
        step = Step(method, lambda at: views, optimizers, seed=seed, autocast=self._autocast)
        rng = np.random.default_rng(seed)
        for number in range(total):
            epoch, place = divmod(number, per_epoch)
            if place == 0:
                mixed = rng.permutation(len(indices))
            taken = mixed[place * batch : (place + 1) * batch]
            step(Drawn(taken, source.fetch(indices[taken])), Progress(number, total, epoch), target)
        assert method.label_head is not None
        self.method_, self.steps_, self.seed_ = method, total, seed
        names = [source.classes[c] if source.classes else str(c) for c in self.classes_]
        self.model_ = Classifier(encoder, method.label_head, names).eval()

    def _views(self, shape: DataShape, source: Source, indices: Array) -> Views:
        """One view of the size at which the encoder judges: in training mode, it does not resize by itself."""
        views: Views = build("views", Choice(self.views), shape)
        drawn, _ = views(source.fetch(indices[:1]), torch.Generator())
        if len(drawn) != 1:
            raise UserError(
                f"finetune: views {self.views!r} draws {len(drawn)} views of an image: give one that draws one (crop)"
            )
        return views

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device_.type, self.precision_, enabled=self.precision_ != torch.float32)
