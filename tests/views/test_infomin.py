"""Views that share as much as asked: patches so far apart, and the paper's augmentation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unlabeled import registry
from unlabeled.batch import DataShape
from unlabeled.errors import UserError
from unlabeled.registry import Choice


def policy(channels: int = 3, size: int = 8, invariances: frozenset[str] | None = None, **options: Any) -> Any:
    known = frozenset({"mirror", "colour", "intensity"}) if invariances is None else invariances
    return registry.build("views", Choice("infomin", options), DataShape(100, channels, size, 2, known, "image"))


def ramp(count: int, side: int) -> torch.Tensor:
    """Every pixel says where it is: its row in the first channel, its column in the second."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([row, column, torch.zeros_like(row)]).to(torch.uint8).expand(count, 3, side, side).contiguous()


def plain(**options: Any) -> Any:
    return policy(invariances=frozenset(), **{"n": 0, "blur": 0.0, **options})


@pytest.mark.parametrize(("patch", "distance"), [(0.25, 0.0), (0.25, 0.5), (0.25, 0.75), (0.5, 0.25)])
def test_the_second_patch_lies_so_far_right_and_down_and_none_is_scaled(patch: float, distance: float) -> None:
    side = 32
    size = round(patch * side)
    made = policy(size=size, invariances=frozenset(), n=0, blur=0.0, patch=patch, distance=distance)
    (first, second), targets = made({"image": ramp(200, side)}, torch.Generator().manual_seed(0))
    assert targets == {}
    inner = slice(1, -1)  # at the borders of a picture a patch repeats the outermost pixel
    apart = (second - first)[:, :2, inner, inner] * 255
    torch.testing.assert_close(apart, torch.full_like(apart, distance * side), atol=0.01, rtol=0)
    steps = first[:, 0, 1:, 1][:, inner].diff(dim=1) * 255
    torch.testing.assert_close(steps, torch.ones_like(steps), atol=0.01, rtol=0)
    starts = first[:, :2, 1, 1] * 255 - 1
    most = (1 - patch - distance) * side
    assert bool((starts >= -0.6).all()) and bool((starts <= most + 0.6).all())
    assert float(starts.max(0).values.min()) >= 0.9 * most  # anywhere, down and across
    if most > 1:
        assert abs(float(torch.corrcoef(starts.T)[0, 1])) < 0.3


def test_crops_share_less_the_smaller_they_may_be_and_colours_the_stronger_they_change() -> None:
    x = torch.randint(0, 256, (64, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    x = x.repeat_interleave(4, 2).repeat_interleave(4, 3)

    def apart(made: Any) -> float:
        first, second = made({"image": x}, torch.Generator().manual_seed(0))[0]
        return float((first - second).abs().mean())

    crops = [apart(plain(size=16, scale=(least, 1.0))) for least in (0.9, 0.5, 0.1)]
    only: dict[str, Any] = {"n": 0, "blur": 0.0, "grey": 0.0, "mirror": 0.0, "scale": (1.0, 1.0)}
    whole = [apart(policy(size=16, strength=s, **only)) for s in (0.1, 0.5, 1.0)]
    assert crops == sorted(crops) and whole == sorted(whole)
    assert crops[0] < 0.7 * crops[-1] and whole[0] < 0.7 * whole[-1]


def test_the_papers_augmentation_is_of_bytes_and_greys_a_fifth_at_the_end() -> None:
    x = torch.randint(0, 256, (500, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    made = policy(grey=0.2)
    views, _ = made({"image": x}, torch.Generator().manual_seed(0))
    for view in views:
        grey = (view - view.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-6
        assert 0.13 < float(grey.float().mean()) < 0.27
        levels = view[~grey] * 255
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    again, _ = made({"image": x}, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    without, _ = policy(n=0, grey=0.2)({"image": x}, torch.Generator().manual_seed(0))
    assert not torch.equal(without[0], views[0])


def test_data_that_allow_nothing_get_crops_and_what_changes_little() -> None:
    made = policy(1, invariances=frozenset())
    assert set(made.random.pool) == {
        "identity", "rotate", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
    }  # fmt: skip
    view, _ = made({"image": torch.full((20, 1, 8, 8), 128, dtype=torch.uint8)}, torch.Generator().manual_seed(0))
    assert float(torch.cat(view).max()) * 255 < 128.5  # nothing was brightened


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"distance": 0.5}, "--views.patch"),
        ({"patch": 0.75, "distance": 0.5}, "would leave the picture; give 0.25 or less"),
        ({"patch": 1.5}, "patch 1.5 is not possible"),
        ({"strength": -1.0}, "strength -1.0 is not possible"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        policy(**options)
