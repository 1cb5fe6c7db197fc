"""An encoder as a transformer of scikit-learn: rows in, features out, at the head of any pipeline."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from unlabeled import api
from unlabeled.registry import Choice
from unlabeled.words import counted

Array = np.ndarray[Any, Any]

TRAINING = ("recipe", "method", "encoder", "views", "optimizer", "epochs", "batch_size", "image_size", "options")
ROWS = 32
"""Images that go through the network together, always: a row's features then do not depend on the rows beside it."""


class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images to features, by a trained run, or by an encoder that `fit` pretrains on them without labels.

    Images are arrays (n, H, W), (n, H, W, C) or (n, C, H, W) with C from 1 to 4, or rows (n, values) of flattened ones.
    Rows are read as `image_shape` says. Where it is None, a row of s² values is a square grey image, one of 3s² values a
    square colour image (s, s, 3), and any other is filled up with the lowest value to the next square and taken as a grey
    image: such a row is hardly a picture, and views that crop and blur it will teach little.

    Values of type uint8 are grey values. Others are brought to 0..255, clipped: from `value_range`, else from [0, 1] if
    those given to `fit` lie in it, else from the smallest and the largest given to `fit`.

    Args:
        run: folder of a trained run; `fit` then looks at shapes and values only, and options of the training are refused.
        recipe: YAML file, as for `unlabeled.pretrain`; as are the options below, with the defaults there.
        method: what learns. One that needs labels is trained by `unlabeled.pretrain` and given as `run`.
        encoder: any backbone of timm.
        views: policy that draws the views.
        optimizer: sgd, adamw, muon or lars.
        epochs: passes over the images.
        batch_size: images per step; at most all of them are taken (default: 256).
        image_size: side of a view in pixels.
        options: dotted options, `{"encoder.width": 16}`.
        image_shape: (H, W), (H, W, C) or (C, H, W) of a flattened row.
        value_range: the values of black and white.
        random_state: of the training: a whole number, a `RandomState`, or None for another one each time. On the CPU the
            same number gives the same bits.
        accelerator: auto, cpu, cuda, mps.
        verbose: whether the training shows its progress.

    Attributes:
        encoder_: the network, on the CPU, in evaluation mode.
        image_shape_: shape of an image as `fit` met it, or as a row is read.
        range_: the values of black and white.
        n_features_in_: values of an image.
        feature_names_in_: names of the columns, where `fit` met a data frame.
    """

    def __init__(
        self,
        *,
        run: str | Path | None = None,
        recipe: str | Path | None = None,
        method: str | None = None,
        encoder: str | None = None,
        views: str | None = None,
        optimizer: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        image_size: int | None = None,
        options: Mapping[str, Any] | None = None,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        random_state: Any = 0,
        accelerator: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.run = run
        self.recipe = recipe
        self.method = method
        self.encoder = encoder
        self.views = views
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.image_size = image_size
        self.options = options
        self.image_shape = image_shape
        self.value_range = value_range
        self.random_state = random_state
        self.accelerator = accelerator
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Pretrains on images X, unless there is a run; `y` is not looked at.

        Raises:
            ValueError: X holds no images, or an option cannot be.
            UserError: what `unlabeled.pretrain` refuses.
        """
        rows, shape = self._rows(X, reset=True)
        self.image_shape_ = shape if shape is not None else _row_shape(rows.shape[1], self.image_shape)
        self.range_ = _range(rows, self.value_range)
        given = {name: getattr(self, name) for name in TRAINING if getattr(self, name) is not None}
        if self.run is None:
            self._pretrain(self._images(rows), given)
        elif given:
            raise ValueError(f"{', '.join(given)}: of no use with a trained run; leave out these options, or run")
        else:
            self.encoder_, self._kind = api.load(self.run), _kind(self.run)
        self._images_fit()
        return self

    def transform(self, X: Any) -> Array:
        """Returns features (n, D) of images X of the shape that `fit` met: float64 where X is, else float32.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: X holds no images, or other ones.
        """
        from unlabeled.data import open_data
        from unlabeled.probes.extract import features
        from unlabeled.recipe import Recipe
        from unlabeled.training.setup import make_fabric

        check_is_fitted(self)
        rows, shape = self._rows(X, reset=False)
        if shape is not None and shape != self.image_shape_:
            raise ValueError(f"X holds images of shape {shape}, and fit met {self.image_shape_}: give images of one shape")
        device = make_fabric(Recipe(), self.accelerator, 1).device
        encoder = self.encoder_ if device.type == "cpu" else copy.deepcopy(self.encoder_).to(device)
        source = open_data(self._images(rows), kind=self._kind, seed=None).train
        filled = np.arange(math.ceil(len(rows) / ROWS) * ROWS) % len(rows)
        h = features(encoder, source, device=device, batch_size=ROWS, indices=filled)[: len(rows)].numpy()
        return h.astype(np.float64 if rows.dtype == np.float64 else np.float32)

    @property
    def _n_features_out(self) -> int:
        return int(self.encoder_.dim)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.three_d_array = True
        return tags

    def _rows(self, X: Any, *, reset: bool) -> tuple[Array, tuple[int, ...] | None]:
        """One row an image (n, values), and the shape of an image, None where X are rows already."""
        shape = None
        least = 2 if reset and self.run is None else 1
        if getattr(X, "ndim", 2) > 2:
            images = check_array(X, allow_nd=True, ensure_min_samples=least, estimator=self)
            X, shape = images.reshape(len(images), -1), images.shape[1:]
        rows: Array = validate_data(self, X, reset=reset, ensure_min_samples=least)
        return rows, shape

    def _images(self, rows: Array) -> Array:
        """uint8 (n, H, W) or (n, H, W, C)."""
        if rows.dtype != np.uint8 or self.range_ != (0.0, 255.0):
            low, high = self.range_
            share = (rows.astype(np.float64) - low) / ((high - low) or 1.0)
            rows = (share.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        missing = math.prod(self.image_shape_) - rows.shape[1]
        images = np.pad(rows, ((0, 0), (0, missing))).reshape(len(rows), *self.image_shape_)
        first = len(self.image_shape_) == 3 and self.image_shape_[0] <= 4 < self.image_shape_[2]
        return images.transpose(0, 2, 3, 1) if first else images

    def _pretrain(self, images: Array, given: dict[str, Any]) -> None:
        from unlabeled.data import open_data

        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        seed = int(self.random_state) if isinstance(self.random_state, int | np.integer) else seed
        given["batch_size"] = min(given.get("batch_size", 256), len(images))
        sized = {} if self.image_size is None else {"size": self.image_size}
        data = open_data(images, kind=Choice("", sized), seed=None)
        silence = contextlib.nullcontext() if self.verbose else contextlib.redirect_stdout(io.StringIO())
        with tempfile.TemporaryDirectory() as folder, silence:
            run = api.pretrain(data, out=Path(folder) / "run", seed=seed, accelerator=self.accelerator, **given)
            self.encoder_, self._kind = run.encoder(), run.recipe.kind

    def _images_fit(self) -> None:
        wanted = self.encoder_.front.channels
        shape = self.image_shape_
        found = 1 if len(shape) == 2 else shape[0] if shape[0] <= 4 < shape[2] else shape[2]
        if found != wanted:
            raise ValueError(
                f"X holds images of {counted(found, 'channels')} (shape {shape}), and the run's encoder takes {wanted}"
            )


def _kind(run: str | Path) -> Choice:
    from unlabeled.run import Run

    return Choice("image") if Path(run).is_file() else Run.open(run).recipe.kind


def _row_shape(values: int, said: tuple[int, ...] | None) -> tuple[int, ...]:
    if said is not None:
        shape = tuple(int(side) for side in said)
        if len(shape) not in (2, 3) or math.prod(shape) != values:
            raise ValueError(
                f"image_shape is {said}, and a row of X has {counted(values, 'values')}: give (H, W), (H, W, C) or (C, H, W)"
            )
        return shape
    side = math.isqrt(values // 3)
    if 3 * side * side == values:
        return (side, side, 3)
    side = math.isqrt(values - 1) + 1
    return (side, side)


def _range(rows: Array, said: tuple[float, float] | None) -> tuple[float, float]:
    if said is not None:
        if not said[0] < said[1]:
            raise ValueError(f"value_range is {said}: give the value of black, then a larger one, of white")
        return float(said[0]), float(said[1])
    if rows.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(rows.min()), float(rows.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
