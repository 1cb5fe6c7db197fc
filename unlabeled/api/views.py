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

    return draw(data, policy, kind or "", dict(options or {}), Path(out), image_size, images, seed, root)
