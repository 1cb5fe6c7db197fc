"""What a trained method makes of images, side by side: the pictures that it says it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from unlabeled import registry
from unlabeled.batch import Batch, Progress
from unlabeled.data import Source
from unlabeled.evaluating.subjects import whole
from unlabeled.methods.base import Method
from unlabeled.run import Run
from unlabeled.training.setup import shape_of
from unlabeled.views.sheet import drawn, lay, picture, zoom

IMAGES = 8
"""Rows of the sheet."""


def made_sheet(run: Run, source: Source) -> Image.Image | None:
    """Draws training images of a run in rows, and what its method makes of each in columns; None where it makes nothing.

    Raises:
        UserError: the run has no checkpoint.
    """
    run.needs("method")
    make: Any = registry.get("methods", run.recipe.method.name).make
    if make.pictures is Method.pictures:
        return None
    recipe, at = run.recipe, Progress(1, 1, 0)
    method = whole(run, run.encoder(), source)
    method.encoder.front.train()  # views have the size of training, not that of judging
    run.needs("views")
    policy = registry.build("views", recipe.views, shape_of(recipe, source))
    chosen = np.random.default_rng(recipe.seed).permutation(len(source))[:IMAGES]
    views, targets = policy(source.fetch(chosen), torch.Generator().manual_seed(recipe.seed))
    with torch.no_grad():
        shown = method.pictures(Batch(views, torch.from_numpy(chosen), targets), at)
    if not shown:
        return None
    columns = [[picture(image) for image in drawn(images)] for images in shown.values()]
    return lay(columns, list(shown), [zoom(columns)] * len(columns), list(range(1, len(columns))))
