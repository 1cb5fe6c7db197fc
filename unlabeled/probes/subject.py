"""What a protocol judges: one representation of images, whose features are extracted once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from unlabeled.data import Source
from unlabeled.encoders import Encoder
from unlabeled.encoders.classifier import Classifier
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.forms import FormError, read_arrays
from unlabeled.methods.base import Method
from unlabeled.probes.extract import features, raw
from unlabeled.registry import Choice


@dataclass(frozen=True)
class Subject:
    """One representation of images.

    Attributes:
        name: `run`, `random`, the kind's raw features (`pixels`), or the folder of another run.
        encoder: in evaluation mode, on `device`; None for raw features.
        method: gives the method that the encoder is part of, with its heads, on `device`; None where there is none.
        device: where it computes.
        precision: what it computes in when it is trained further.
        cache: folder of features that were extracted before, by their content; None keeps none there.
        views: policy that the run drew its views with; None where that is not known.
        saw_labels: of how much its method learned the labels, such as `100%`; "" of a method that needs none.
        fresh: gives an untrained encoder of the same shape by a seed, on the CPU; None where that is not known.
        trained: whether the encoder has learned anything.
        classifier: gives the classifier that came out of the training, on the CPU; None where there is none.
    """

    name: str
    encoder: Encoder | None
    method: Callable[[], Method] | None = None
    device: torch.device | str = "cpu"
    precision: torch.dtype = torch.float32
    cache: Path | None = None
    views: Choice | None = None
    saw_labels: str = ""
    fresh: Callable[[int], Encoder] | None = None
    trained: bool = True
    classifier: Callable[[], Classifier] | None = None
    _held: WeakKeyDictionary[Source, Tensor] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    def features(self, source: Source, indices: np.ndarray | None = None) -> Tensor:
        """Returns what stands for the images at these positions (n,), all if None: (n, D) float32 on the CPU."""
        if self.encoder is None:
            return raw(source, indices)
        found = self._kept(source)
        if found is None:
            found = features(self.encoder, source, device=self.device)
            self._keep(source, found)
        return found if indices is None else found[torch.as_tensor(indices)]

    def beginning(self, seed: int) -> Encoder:
        """Returns the encoder to train further: an untrained one is drawn by the seed, so that several tell of
        initialisation.

        Raises:
            ValueError: raw features have none.
        """
        if self.encoder is None:
            raise ValueError("raw features have no encoder to train")
        return self.encoder if self.trained or self.fresh is None else self.fresh(seed)

    def _path(self, source: Source) -> Path | None:
        """Named by everything that the features depend on: the weights, the images and their place, the size they are judged
        at; None where the images may have changed unnoticed."""
        if self.cache is None or self.encoder is None or not source.lasting:
            return None
        said = f"{source.key} {source.form.fields} {weights(self.encoder)}"
        return self.cache / f"{hashlib.sha256(said.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.npz"

    def _kept(self, source: Source) -> Tensor | None:
        path = self._path(source)
        if path is None or self.encoder is None or source in self._held or not path.is_file():
            return self._held.get(source)
        try:
            h, bad = read_arrays(path, "h", "bad")
        except FormError:
            return None
        places = bad.dtype == np.int64 and bad.ndim == 1 and ((bad >= 0) & (bad < len(source))).all()
        if h.dtype != np.float32 or h.shape != (len(source), self.encoder.dim) or not places:
            return None
        if len(bad):
            source.fetch(bad)  # whoever reads the images finds out which are bad or damaged, and tells from then on
        return torch.from_numpy(h)

    def _keep(self, source: Source, h: Tensor) -> None:
        path = self._path(source)
        if path is None:
            self._held[source] = h
            return

        bad = np.array([one.index for one in (*source.skipped, *source.damaged)], np.int64)

        def save(at: Path) -> None:
            with at.open("wb") as file:
                np.savez(file, h=h.numpy(), bad=bad)

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, save)
        except (OSError, UserError):  # someone else's run, or a full disk: features need no keeping
            self._held[source] = h


def weights(encoder: Encoder) -> str:
    """Returns the same for encoders that give the same features: a digest of the weights, and how they judge."""
    digest = hashlib.sha256(f"{encoder.front.kind} {encoder.front.tta}".encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
