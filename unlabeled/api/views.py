"""The verb `views`; in Python `contact_sheet`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    from unlabeled.notebook import Picture


@takes_data
def contact_sheet(
    data: Any,
    /,
    *,
    policy: str | Callable[..., Any] | None = None,
    out: str | Path = "views.png",
    image_size: int | None = None,
    images: int = 8,
    seed: int = 0,
    **about: Unpack[About],
) -> Picture:
    """Draw a contact sheet: what a method sees of the data.

    Options of the policy are written with a dot: `--policy.strength 0.5`, or `--views.strength 0.5` as for `pretrain`; in
    Python, `options={"policy.strength": 0.5}`.

    Args:
        data: images, as for `pretrain`.
        policy: of the views (default: simclr for images, window for recordings). In Python also one of your own, as for
            `pretrain`.
        out: PNG file.
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        images: number of images.
        seed: of the draws.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The file; a notebook shows it.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.inspecting.views import draw

    return draw(data, policy, Path(out), image_size=image_size, images=images, seed=seed, about=about)
