"""FixMatch's views: each operation is PIL's, all is drawn as the paper says, and only what the data allows is done."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from unlabeled import registry
from unlabeled.batch import DataShape
from unlabeled.errors import UserError
from unlabeled.registry import Choice
from unlabeled.views import view
from unlabeled.views.policies import weak_strong
from unlabeled.views.policies.weak_strong import OPERATIONS, WeakStrong, shifted

Bytes = NDArray[np.uint8]
RANGES = {
    "autocontrast": None, "brightness": (0.05, 0.95), "color": (0.05, 0.95), "contrast": (0.05, 0.95), "equalize": None,
    "identity": None, "posterize": (4, 8), "rotate": (-30, 30), "sharpness": (0.05, 0.95), "shear_x": (-0.3, 0.3),
    "shear_y": (-0.3, 0.3), "solarize": (0, 1), "translate_x": (-0.3, 0.3), "translate_y": (-0.3, 0.3),
}  # fmt: skip
PLACES = {"identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
TABLES = {"equalize", "posterize", "solarize"}
ALWAYS = PLACES | {"sharpness"}
EVERYTHING = frozenset({"mirror", "flip", "rotation", "colour", "intensity"})


def shape(channels: int = 3, size: int = 32, invariances: frozenset[str] = EVERYTHING) -> DataShape:
    return DataShape(100, channels, size, 10, invariances)


def policy(of: DataShape | None = None, **options: object) -> WeakStrong:
    made: WeakStrong = registry.build("views", Choice("weak-strong", options), of or shape())
    return made


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=seeded(seed))


def pictures(count: int, channels: int, side: int) -> torch.Tensor:
    """By turns noise, smooth, pale, and of four values."""
    x = noise(count, channels, side, side)
    ramp = (torch.arange(side).view(-1, 1) * 3 + torch.arange(side) * 2) % 256
    x[1::4] = (x[1::4] // 32 + ramp * 200 // ramp.max().clamp(min=1)).to(torch.uint8)
    x[2::4] = x[2::4] // 3 + 90
    x[3::4] = x[3::4] // 64 * 60 + 7
    return x


def both(x: torch.Tensor, of: DataShape | None = None, seed: int = 0, **options: object) -> list[torch.Tensor]:
    views, targets = policy(of or shape(x.shape[1], x.shape[3]), **options)({"image": x}, seeded(seed))
    assert targets == {}
    return views


# ---- PIL -------------------------------------------------------------------------------------------------------------


def transform(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


PIL: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(m),
    "color": lambda image, m: ImageEnhance.Color(image).enhance(m),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(m),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "identity": lambda image, m: image,
    "posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "rotate": lambda image, m: image.rotate(m),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(m),
    "shear_x": lambda image, m: transform(image, 1, m, 0, 0, 1, 0),
    "shear_y": lambda image, m: transform(image, 1, 0, 0, m, 1, 0),
    "solarize": lambda image, m: ImageOps.solarize(image, m * 256),
    "translate_x": lambda image, m: transform(image, 1, 0, m * image.width, 0, 1, 0),
    "translate_y": lambda image, m: transform(image, 1, 0, 0, 0, 1, m * image.height),
}


def pil(name: str, x: Bytes, magnitude: float) -> Bytes:
    """(C, S, S) -> (C, S, S), of one or three channels."""
    image = Image.fromarray(x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0)))
    made = np.asarray(PIL[name](image, magnitude))
    return made[None] if made.ndim == 2 else made.transpose(2, 0, 1)


def near_an_edge(name: str, magnitude: float, side: int) -> NDArray[np.bool_]:
    """Places (S, S) that come from within a thousandth of where one pixel ends and the next begins."""
    y, x = np.mgrid[:side, :side] + 0.5
    c, angle = side / 2, math.radians(magnitude)
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = {
        "rotate": (cos * (x - c) - sin * (y - c) + c, sin * (x - c) + cos * (y - c) + c),
        "shear_x": (x + magnitude * y, y),
        "shear_y": (x, y + magnitude * x),
        "translate_x": (x + magnitude * side, y),
        "translate_y": (x, y + magnitude * side),
    }.get(name, (x, y))
    return (abs(across - across.round()) < 1e-3) | (abs(down - down.round()) < 1e-3)


def magnitudes(name: str, count: int) -> torch.Tensor:
    """Both ends, the middle and others."""
    low, high = RANGES[name] or (0, 0)
    drawn = low + (high - low) * torch.rand(count, generator=seeded(1))
    drawn[:3] = torch.tensor([low, high, (low + high) / 2])
    return drawn.floor() if name == "posterize" else drawn


@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28), (3, 17)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_is_pils(name: str, channels: int, side: int) -> None:
    """Places: the same bytes, but within a thousandth of a pixel's edge, where PIL's fixed point may take the neighbour.
    Values: the same bytes from tables of whole numbers; else one level at most and seldom, where a product that is whole
    but for rounding is cut off (autocontrast: PIL's is in double precision; blends: a compiler may fuse theirs)."""
    x, drawn = pictures(48, channels, side), magnitudes(name, 48)
    made = OPERATIONS[name].apply(x, drawn).numpy()
    assert made.dtype == np.uint8
    theirs = np.stack([pil(name, a, float(m)) for a, m in zip(x.numpy(), drawn, strict=True)])
    if name in PLACES:
        edges = np.stack([near_an_edge(name, float(m), side) for m in drawn])
        assert edges.mean() < 0.05
        np.testing.assert_array_equal(np.where(edges[:, None], 0, made), np.where(edges[:, None], 0, theirs))
    else:
        apart = abs(made.astype(int) - theirs)
        assert apart.max() <= (0 if name in TABLES else 1)
        assert (apart > 0).mean() < 0.005


def test_a_stretched_channel_is_the_whole_part_of_the_quotient() -> None:
    x = pictures(12, 3, 20)
    for made, channel in zip(
        OPERATIONS["autocontrast"].apply(x, torch.zeros(12)).flatten(0, 1).numpy(), x.flatten(0, 1).numpy(), strict=True
    ):
        low, high = int(channel.min()), int(channel.max())
        np.testing.assert_array_equal(made, (channel.astype(int) - low) * 255 // (high - low))
        assert (made.min(), made.max()) == (0, 255)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"color", "contrast"}))
def test_five_channels_are_each_treated_as_one(name: str) -> None:
    x, drawn = pictures(20, 5, 24), magnitudes(name, 20)
    apply = OPERATIONS[name].apply
    assert torch.equal(apply(x, drawn), torch.cat([apply(x[:, c : c + 1], drawn) for c in range(5)], 1))


def test_the_contrast_of_five_channels_is_about_the_mean_of_all() -> None:
    x, drawn = pictures(20, 5, 24), magnitudes("contrast", 20)
    for made, a, share in zip(OPERATIONS["contrast"].apply(x, drawn), x.numpy(), drawn, strict=True):
        grey = np.floor(a.mean(0) + 0.5)
        mean = np.floor(grey.mean() + 0.5)
        np.testing.assert_allclose(made.numpy(), mean + float(share) * (a - mean) - 0.5, atol=0.5 + 1e-3)


NOTHING = dict.fromkeys(sorted(PLACES), 0.0) | dict.fromkeys(
    ("brightness", "color", "contrast", "sharpness", "solarize"), 1.0
)


@pytest.mark.parametrize(("name", "magnitude"), [*NOTHING.items(), ("posterize", 8.0), ("posterize", 9.0)])
def test_some_magnitude_changes_nothing(name: str, magnitude: float) -> None:
    for side in (1, 2, 3, 32):
        x = pictures(8, 3, side)
        assert torch.equal(OPERATIONS[name].apply(x, torch.full((8,), magnitude)), x)


def test_what_has_nothing_to_spread_stays() -> None:
    constant = torch.arange(0, 250, 50, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 20, 20)
    for name in ("autocontrast", "equalize", "contrast", "color", "sharpness"):
        assert torch.equal(OPERATIONS[name].apply(constant, torch.full((5,), 0.3)), constant), name
    few = noise(4, 3, 15, 15)  # 225 pixels
    assert torch.equal(OPERATIONS["equalize"].apply(few, torch.zeros(4)), few)


def test_signs_and_sizes_of_moves() -> None:
    x, quarter = noise(2, 3, 16, 16), torch.tensor([0.25, -0.25])
    left, up = OPERATIONS["translate_x"].apply(x, quarter), OPERATIONS["translate_y"].apply(x, quarter)
    assert torch.equal(left[0, :, :, :12], x[0, :, :, 4:]) and not left[0, :, :, 12:].any()
    assert torch.equal(left[1, :, :, 4:], x[1, :, :, :12]) and not left[1, :, :, :4].any()
    assert torch.equal(up[0, :, :12], x[0, :, 4:]) and not up[0, :, 12:].any()
    assert torch.equal(OPERATIONS["rotate"].apply(x, torch.full((2,), 90.0)), torch.rot90(x, 1, (2, 3)))
    assert torch.equal(OPERATIONS["solarize"].apply(x, torch.zeros(2)), 255 - x)


# ---- what is drawn ---------------------------------------------------------------------------------------------------

SURE = 1e-4
"""A fair draw falls below it once in ten thousand seeds; the seed is fixed."""


def test_the_operations_are_the_papers_fourteen() -> None:
    assert list(policy().random.pool) == list(RANGES)


def test_every_operation_is_drawn_alike_and_independently_of_the_other() -> None:
    drawn = policy().draw(40_000, seeded())["operation"]
    assert stats.chisquare(torch.bincount(drawn[:, 0], minlength=14)).pvalue > SURE
    assert stats.chisquare(torch.bincount(drawn[:, 0] * 14 + drawn[:, 1], minlength=196)).pvalue > SURE


@pytest.mark.parametrize("name", RANGES)
def test_magnitudes_are_uniform_in_their_range(name: str) -> None:
    made = policy()
    drawn = made.draw(40_000, seeded())
    mine = drawn["magnitude"][drawn["operation"] == list(RANGES).index(name)].numpy()
    bounds = RANGES[name]
    if bounds is None:
        assert not mine.any()
    elif name == "posterize":
        one = torch.full((len(mine), 1, 1, 1), 255, dtype=torch.uint8)
        kept = OPERATIONS[name].apply(one, torch.from_numpy(mine)).flatten().numpy()
        levels, counts = np.unique(kept, return_counts=True)
        assert levels.tolist() == [240, 248, 252, 254, 255]  # 4 to 8 bits
        assert stats.chisquare(counts).pvalue > SURE
    else:
        low, high = bounds
        assert low <= mine.min() and mine.max() <= high + 1e-6
        assert stats.kstest(mine, stats.uniform(low, high - low).cdf).pvalue > SURE


def test_mirror_shift_and_hole_are_uniform_and_the_views_draw_them_apart() -> None:
    drawn = policy().draw(20_000, seeded())
    both_mirrored = drawn["mirror"] @ torch.tensor([1.0, 2.0])
    assert stats.chisquare(torch.bincount(both_mirrored.long(), minlength=4)).pvalue > SURE
    for axis in range(2):
        pairs = (drawn["shift"][:, :, axis] + 4) @ torch.tensor([1.0, 9.0])
        assert stats.chisquare(torch.bincount(pairs.long(), minlength=81)).pvalue > SURE
    directions = (drawn["shift"][:, 0] + 4) @ torch.tensor([1.0, 9.0])
    assert stats.chisquare(torch.bincount(directions.long(), minlength=81)).pvalue > SURE
    for axis in range(2):
        assert stats.chisquare(torch.bincount((drawn["hole"][:, axis] + 8).long(), minlength=32)).pvalue > SURE


def test_switching_something_off_leaves_the_other_draws() -> None:
    every = policy().draw(30, seeded())
    for options, changed in (
        ({"mirror": 0.0}, {"mirror"}),
        ({"translate": 0.0}, {"shift"}),
        ({"cutout": 0.0}, {"hole"}),
    ):
        other = policy(**options).draw(30, seeded())
        assert all(torch.equal(every[name], other[name]) != (name in changed) for name in every)
    more = policy(n=5).draw(30, seeded())
    assert all(torch.equal(every[name], more[name]) for name in ("mirror", "shift", "hole"))
    assert all(torch.equal(every[name], more[name][:, :2]) for name in ("operation", "magnitude"))
    a, b = seeded(), seeded()
    policy().draw(30, a)
    policy(shape(1, invariances=frozenset()), mirror=0.0, translate=0.0, cutout=0.0).draw(30, b)
    assert torch.equal(a.get_state(), b.get_state())


# ---- the views -------------------------------------------------------------------------------------------------------


def moved(x: Bytes, mirror: float, down: float, right: float, most: int) -> Bytes:
    x = x[:, :, ::-1] if mirror else x
    padded = np.pad(x, ((0, 0), (most, most), (most, most)), mode="reflect")
    top, left = int(down) + most, int(right) + most
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]


@pytest.mark.parametrize(
    ("channels", "side", "translate"), [(3, 32, 0.125), (1, 28, 0.125), (5, 9, 0.5), (3, 2, 0.5), (3, 1, 0.5)]
)
def test_the_weak_view_is_mirrored_and_moved_with_a_reflected_border(channels: int, side: int, translate: float) -> None:
    x = noise(40, channels, side, side)
    weak, _ = both(x, translate=translate)
    drawn = policy(shape(channels, side), translate=translate).draw(40, seeded())
    assert int(drawn["shift"].abs().max()) == int(translate * side)
    for made, a, mirror, shift in zip(weak, x.numpy(), drawn["mirror"][:, 0], drawn["shift"][:, 0], strict=True):
        expected = moved(a, float(mirror), float(shift[0]), float(shift[1]), int(translate * side))
        np.testing.assert_array_equal(made.numpy(), expected / np.float32(255))


def test_the_strong_view_is_another_weak_one_with_two_operations_of_pil_and_a_grey_square() -> None:
    x = pictures(120, 3, 32)
    made = policy()
    (_, strong), _ = made({"image": x}, seeded())
    drawn, names = made.draw(120, seeded()), list(made.random.pool)
    assert len({(int(a), int(b)) for a, b in drawn["operation"]}) > 80
    apart = []
    for i, a in enumerate(x.numpy()):
        picture = moved(a, float(drawn["mirror"][i, 1]), *(float(s) for s in drawn["shift"][i, 1]), 4)
        for operation, magnitude in zip(drawn["operation"][i], drawn["magnitude"][i], strict=True):
            picture = pil(names[operation], picture, float(magnitude))
        expected = picture / np.float32(255)
        top, left = (int(v) for v in drawn["hole"][i])
        expected[:, max(0, top) : top + 16, max(0, left) : left + 16] = 0.5
        apart.append(abs(strong[i].numpy() - expected))
    levels = np.stack(apart) * 255
    assert (levels > 0.01).mean() < 0.005  # edges of pixels, and what an equalization makes of them
    assert (levels.reshape(120, -1).max(1) < 0.01).mean() > 0.9


def test_the_square_is_half_the_side_and_cut_at_the_border() -> None:
    x = noise(300, 3, 32, 32) // 2 * 2  # of which none is grey
    whole, cut = both(x, n=0, cutout=0.0)[1], both(x, n=0)[1]
    hole = (cut == 0.5).all(1)
    assert torch.equal(cut == 0.5, hole.unsqueeze(1).expand_as(cut))
    assert torch.equal(cut[cut != 0.5], whole[cut != 0.5])
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), heights * widths)
    assert (int(heights.min()), int(heights.max())) == (8, 16) == (int(widths.min()), int(widths.max()))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("side", "size"), [(32, 32), (40, 24), (9, 16), (1, 4), (4, 1)])
def test_pictures_of_another_size_are_resized_whole_and_first(channels: int, side: int, size: int) -> None:
    x = pictures(6, channels, side)
    kept, of = x.clone(), shape(channels, size)
    views = both(x, of)
    assert torch.equal(x, kept)
    for made in views:
        assert made.shape == (6, channels, size, size)
        assert made.dtype == torch.float32
        assert 0 <= float(made.min()) <= float(made.max()) <= 1
    plain = registry.build("views", Choice("none", {}), of)({"image": x}, seeded())[0][0]
    small = (plain * 255).round().to(torch.uint8)
    assert all(torch.equal(a, b) for a, b in zip(views, both(small, of), strict=True))


def test_the_same_state_gives_the_same_bits_on_any_number_of_threads() -> None:
    x, made = pictures(70, 3, 32), policy()
    generator, threads = seeded(), torch.get_num_threads()
    first, later = made({"image": x}, generator)[0], made({"image": x}, generator)[0]
    try:
        torch.set_num_threads(3)
        again = made({"image": x}, seeded())[0]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, later, strict=True))
    assert not torch.equal(*first)


def test_a_sample_depends_on_no_other_and_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, others = pictures(60, 3, 32), noise(60, 3, 32, 32, seed=5)
    others[20:23] = x[20:23]
    whole = both(x)
    for a, b in zip(whole, both(others), strict=True):
        assert torch.equal(a[20:23], b[20:23])
    monkeypatch.setattr(weak_strong, "pieces", lambda x, size: [slice(0, 7), slice(7, 8), slice(8, 60)])
    assert all(torch.equal(a, b) for a, b in zip(whole, both(x), strict=True))
    assert [len(made) for made in both(x[:0])] == [0, 0]


# ---- what the data allows --------------------------------------------------------------------------------------------

VALUES = {"brightness", "contrast", "posterize", "solarize"}
BALANCE = {"autocontrast", "equalize"}


@pytest.mark.parametrize(
    ("channels", "invariances", "names"),
    [
        (3, {"colour"}, set(RANGES)),
        (3, {"intensity", "mirror"}, ALWAYS | VALUES),
        (1, {"colour"}, ALWAYS | VALUES | BALANCE),
        (1, {"intensity"}, ALWAYS | VALUES | BALANCE),
        (5, {"colour"}, ALWAYS | VALUES | BALANCE),
        (5, {"intensity"}, ALWAYS | VALUES),
        (3, {"mirror", "flip", "rotation"}, ALWAYS),
        (1, set(), ALWAYS),
    ],
)
def test_only_what_the_data_allows_is_in_the_pool(channels: int, invariances: set[str], names: set[str]) -> None:
    made = policy(shape(channels, invariances=frozenset(invariances)))
    assert set(made.random.pool) == names
    drawn = made.draw(5000, seeded())["operation"]
    assert stats.chisquare(torch.bincount(drawn.flatten(), minlength=len(names))).pvalue > SURE


def test_digits_are_never_mirrored() -> None:
    x = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    x[..., :9] = 255  # bright on the left, and still there after 8.4 and 3 pixels to the left or 14 in the grey
    for made in both(x, shape(1, 28, frozenset()), mirror=1.0, n=1, cutout=0.0):
        assert (made[..., :14].mean((1, 2, 3)) >= made[..., 14:].mean((1, 2, 3))).all()
    weak, strong = both(x, shape(1, 28, frozenset({"mirror"})), mirror=1.0, translate=0.0, n=0, cutout=0.0)
    assert torch.equal(weak, x.flip(3).float() / 255) and torch.equal(weak, strong)


def test_grey_pictures_of_three_channels_stay_grey() -> None:
    views = both(pictures(200, 1, 32).expand(-1, 3, -1, -1), shape())
    for made in views:
        assert torch.equal(made[:, 0], made[:, 1]) and torch.equal(made[:, 0], made[:, 2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mirror": 1.5}, "mirror 1.5"),
        ({"translate": 0.6}, "translate 0.6"),
        ({"translate": -0.1}, "translate -0.1"),
        ({"n": -1}, "n -1"),
        ({"n": 17}, "n 17"),
        ({"cutout": 1.1}, "cutout 1.1"),
        ({"nonsense": 1}, "no option"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        policy(**options)
    assert "\n" not in str(error.value)


def test_half_an_operation_and_a_wrong_mirror_are_refused_in_python_too() -> None:
    with pytest.raises(UserError, match="whole number"):
        WeakStrong(shape(), n=1.5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="mirror 2"):
        WeakStrong(shape(invariances=frozenset()), mirror=2)


def test_a_shift_without_mirror_is_the_pictures_neighbourhood() -> None:
    x = torch.arange(5, dtype=torch.uint8).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    for right, row in ((2, [2, 3, 4, 3, 2]), (-2, [2, 1, 0, 1, 2]), (0, [0, 1, 2, 3, 4])):
        assert shifted(x, torch.zeros(1), torch.tensor([[0.0, right]]))[0, 0, 0].tolist() == row


def test_the_luma_is_the_repositorys() -> None:
    torch.testing.assert_close(torch.tensor(weak_strong.LUMA) / 2**16, torch.tensor(view.ops.LUMA), rtol=0, atol=1e-5)
