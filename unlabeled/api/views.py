"""The verb `views`; in Python `contact_sheet`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.notebook import Picture


def contact_sheet(
    data: Any,
    /,
    *,
    policy: str | Callable[..., Any] | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    invariances: str | None = None,
    kind: str | None = None,
    out: str | Path = "views.png",
    image_size: int | None = None,
    images: int = 8,
    seed: int = 0,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Picture:
    """Draw a contact sheet: what a method sees of the data.

    Options of the policy are written with a dot: `--policy.strength 0.5`; in Python, `options={"policy.strength": 0.5}`.

    Args:
        data: images, as for `pretrain`.
        policy: of the views (default: simclr for images, window for recordings). In Python also one of your own, as for
            `pretrain`.
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        invariances: what views may do to a sample that keeps its meaning, of images some of mirror, flip, rotation, colour
            and intensity with commas between them (default: what the data set declares; mirror,colour,intensity of images of
            your own).
        kind: of the samples, image or sound, where files of several lie together (default: found from the data).
        out: PNG file.
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        images: number of images.
        seed: of the draws.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        options: dotted options.

    Returns:
        The file; a notebook shows it.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.inspecting.views import draw
    from unlabeled.recipe import Roles

    roles = Roles().given(path=path, split=split, limit=limit, invariances=invariances)
    return draw(data, roles, policy, kind or "", dict(options or {}), Path(out), image_size, images, seed, root)
