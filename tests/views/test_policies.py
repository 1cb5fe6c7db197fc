"""What every policy promises, whatever it draws."""

import dataclasses
import inspect
from collections.abc import Callable

import pytest
import torch

from unlabeled import registry
from unlabeled.batch import DataShape
from unlabeled.errors import UserError
from unlabeled.registry import Choice
from unlabeled.views.policies.patches import Pirl
from unlabeled.views.policies.photographs import Byol, Crop, Distorted, MultiCrop
from unlabeled.views.policies.writing import Affine
from unlabeled.views.view import RATIO, View, Views, draw_views, of, pieces, to_device

NAMES = [
    "affine",
    "byol",
    "colours",
    "crop",
    "exemplar",
    "holes",
    "infomin",
    "instance",
    "jigsaw",
    "masked",
    "moco-v1",
    "moco-v2",
]
NAMES += ["multi-crop", "multi-patch", "neighbours", "none", "pair", "patch-grid", "patch-grid-v2", "pirl", "puzzle"]
NAMES += ["blocks", "corrupted", "quarters", "reduced", "simclr", "turns", "weak-strong"]
TARGETS = {"pirl": {"permutation"}, "jigsaw": {"permutation"}, "turns": {"rotation"}, "masked": {"keep", "hidden"}}
TARGETS |= {"blocks": {"keep", "hidden"}}
TARGETS |= {"puzzle": {"permutation", "order", "orders"}, "neighbours": {"position"}, "holes": {"hidden", "asked"}}
PARTS: dict[str, Callable[[int], tuple[int, int]]] = {
    "turns": lambda size: (4, size),
    "puzzle": lambda size: (9, max(4, round(size // 3 * 64 / 85))),
    "neighbours": lambda size: (9, {16: 4, 17: 4, 32: 7, 64: 15}[size]),
    "patch-grid": lambda size: (49, size // 8 * 2),
    "patch-grid-v2": lambda size: (49, size // 8 * 2),
}
"""How many parts of a view of that size a policy of one view gives, and their side."""
ONE = ("none", "crop", "pirl", "instance", "masked", "blocks", "colours", "holes", *PARTS)
"""Those without two whole views."""
NOTHING: frozenset[str] = frozenset()
EVERYTHING = frozenset({"mirror", "flip", "rotation", "colour", "intensity"})


def shape(channels: int = 3, size: int = 16, invariances: frozenset[str] = EVERYTHING) -> DataShape:
    return DataShape(100, channels, size, 10, invariances)


def policy(name: str, of: DataShape | None = None, **options: object) -> Views:
    few = {"permutations": 10} if name == "puzzle" else {}  # a thousand take a second to find
    made: Views = registry.build("views", Choice(name, {**few, **options}), of or shape())
    return made


def images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_registry_finds_exactly_these() -> None:
    assert registry.names("views") == sorted([*NAMES, "tasks", "window"])  # have tests of their own


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_default_and_a_line_of_help(name: str) -> None:
    for option in registry.get("views", name).options().values():
        assert option.help
        assert option.default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("channels", "side", "size", "batch"), [(3, 32, 32, 5), (1, 8, 17, 3), (5, 33, 16, 1), (3, 70, 64, 2)]
)
def test_views_are_float_in_range_of_the_asked_size(name: str, channels: int, side: int, size: int, batch: int) -> None:
    x = images(batch, channels, side, side)
    kept = x.clone()
    views, targets = policy(name, shape(channels, size))({"image": x}, seeded())
    assert targets.keys() == TARGETS.get(name, set())
    assert torch.equal(x, kept)
    if name == "pirl":
        assert [view.shape for view in views] == [
            (batch, channels, size, size), (batch, 9, channels, *[max(4, round(size * 2 / 7))] * 2)
        ]  # fmt: skip
        views = [views[0], views[1].flatten(0, 1)]
    if name == "quarters":
        assert views[1].shape[:2] == (batch, 4)
        size //= 2
        views = [views[0], views[1][:, 3]]
    if name in PARTS:
        count, size = PARTS[name](size)
        assert views[0].shape[:2] == (batch, count)
        views = [views[0][:, 1]]
    sizes = [size] * (1 if name in ONE else {"multi-patch": 20}.get(name, 2)) + (
        [round(size * 3 / 7)] * 6 if name == "multi-crop" else []
    )
    sizes = [size // 2, size] if name == "reduced" else sizes
    assert name == "pirl" or [view.shape for view in views] == [(batch, channels, s, s) for s in sizes]
    for view in views:
        assert view.dtype == torch.float32
        assert 0 <= float(view.min()) <= float(view.max()) <= 1
        assert view.std() > 0


ALL_ON = {
    "simclr": {"flip": 0.5, "turn": 0.5, "blur": 0.5, "solarise": 0.5},
    "byol": {"flip": 0.5, "turn": 0.5, "blur": 0.5, "blur_second": 0.5, "solarise": 0.5},
    "crop": {"flip": 0.5, "turn": 0.5, "cutout": 0.5},
    "affine": {"elastic": 0.03, "cutout": 0.3},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_state_gives_the_same_views_bit_by_bit_and_another_does_not(name: str) -> None:
    x, made = images(70, 3, 32, 32), policy(name, shape(size=32), **ALL_ON.get(name, {}))
    generator = seeded()
    first, again, state, later = (
        made({"image": x}, seeded())[0], made({"image": x}, seeded())[0],
        made({"image": x}, generator), made({"image": x}, generator)[0],
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, state[0], strict=True))
    changing = first[:1] if name == "corrupted" else first  # its second view is the image as it is
    if name != "none":
        assert not any(torch.equal(a, b) for a, b in zip(changing, later, strict=False))
    if name not in ONE:
        assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_does_not_depend_on_the_others_given_its_parameters(name: str) -> None:
    x = images(90, 3, 32, 32)
    made = policy(name, shape(size=32), **ALL_ON.get(name, {}))
    others = images(90, 3, 32, 32, seed=1)
    others[[3, 77]] = x[[3, 77]]
    for a, b in zip(made({"image": x}, seeded())[0], made({"image": others}, seeded())[0], strict=True):
        assert torch.equal(a[[3, 77]], b[[3, 77]])
        assert not torch.equal(a[4], b[4])


def test_a_large_batch_is_made_of_the_same_views_as_its_parts() -> None:
    view = View(32, (0.2, 1.0), RATIO, mirror=0.5, brightness=0.5, hue=0.1, blur=0.5, solarise=0.3).within(shape())
    x = images(400, 3, 32, 32)
    drawn = view.draw(400, 32, seeded())
    plan = view.plan(drawn, 32, 3)
    assert len(pieces(x, 32)) == 2
    parts = [view.apply(x[i : i + 80], of(plan, slice(i, i + 80))) for i in range(0, 400, 80)]
    assert torch.equal(draw_views([view], x, seeded())[0], torch.cat(parts))
    assert to_device(drawn, torch.device("cpu")) is drawn


def test_none_is_the_picture() -> None:
    x = images(4, 3, 16, 16)
    assert torch.equal(policy("none")({"image": x}, seeded())[0][0], x.float() / 255)


PROBABILITIES = {"mirror": 0.5, "flip": 0.3, "turn": 0.6, "jitter": 0.8, "grey": 0.2, "blur": 0.5, "solarise": 0.2}


def test_probabilities_and_ranges_hold() -> None:
    n = 20_000
    view = View(32, (0.08, 1.0), RATIO, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, **PROBABILITIES)  # type: ignore[arg-type]
    drawn = view.within(shape()).draw(n, 32, seeded())
    happened = {
        "mirror": drawn["mirror"] > 0,
        "flip": drawn["flip"] > 0,
        "turn": drawn["turns"] > 0,
        "jitter": drawn["brightness"] != 1,
        "grey": drawn["saturation"] == 0,
        "blur": drawn["sigma"] > 0,
        "solarise": drawn["threshold"] < 1,
    }
    for name, p in PROBABILITIES.items():
        assert float(happened[name].float().mean()) == pytest.approx(p, abs=0.015), name
    for turns in (1, 2, 3):
        assert float((drawn["turns"] == turns).float().mean()) == pytest.approx(0.2, abs=0.015)
    changed = drawn["brightness"][happened["jitter"]]
    assert 0.2 <= float(changed.min()) < 0.21 < 1.79 < float(changed.max()) <= 1.8
    assert float(changed.mean()) == pytest.approx(1, abs=0.02)
    assert 0.19 < float(drawn["hue"].abs().max()) <= 0.2
    assert 0.1 <= float(drawn["sigma"][happened["blur"]].min()) < float(drawn["sigma"].max()) <= 2.0


def test_boxes_are_distributed_as_torchvisions() -> None:
    from torchvision.transforms.v2 import RandomResizedCrop

    n, side = 20_000, 64
    drawn = View(32, (0.08, 1.0), RATIO).draw(n, side, seeded())
    ours = torch.stack([drawn[name] for name in ("top", "left", "height", "width")], 1)
    assert torch.equal(ours, ours.round())
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= side).all() and (ours[:, 2:] >= 1).all()
    picture, crop = torch.empty(3, side, side), RandomResizedCrop(32, antialias=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [crop.make_params([picture]) for _ in range(3000)]
    theirs = torch.tensor([[float(d[name]) for name in ("top", "left", "height", "width")] for d in draws])
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), rtol=0, atol=1.0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.06, atol=0)
    areas = ours[:, 2] * ours[:, 3] / side**2
    assert float(areas.min()) > 0.07 and float(areas.max()) <= 1


def test_switching_an_operation_off_leaves_the_other_draws() -> None:
    every = View(32, (0.2, 1.0), RATIO, turn=0.5, mirror=0.5, brightness=0.4, blur=0.5, solarise=0.5, cutout=0.5)
    fewer = dataclasses.replace(every, turn=0.0, blur=0.0, cutout=0.0)
    a, b = every.draw(9, 32, seeded()), fewer.draw(9, 32, seeded())
    assert set(b) < set(a)
    assert all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("exemplar", "weak-strong")])  # have their own tests
def test_what_is_not_an_invariance_is_never_done(name: str) -> None:
    made = policy(name, shape(invariances=NOTHING))
    for view in made.parts if hasattr(made, "parts") else [made.light]:  # type: ignore[attr-defined]
        assert (view.mirror, view.flip, view.turn, view.grey, view.solarise) == (0, 0, 0, 0, 0)
        assert not view.colours


def test_digits_are_never_mirrored_and_grey_is_never_coloured() -> None:
    x = torch.zeros(200, 1, 16, 16, dtype=torch.uint8)
    x[..., :5] = 255  # bright on the left
    for name in NAMES:
        # small crops may show nothing of it, four solarise
        if name not in ("multi-crop", "multi-patch", "byol", "jigsaw", "pirl", "quarters", "weak-strong", *PARTS):
            larger: dict[str, object] = {"scale": (0.6, 1.0)} | ({"n": 0} if name == "infomin" else {})
            options = {"crop": {"pad": 0.0}, "affine": {}, "none": {}, "corrupted": {}}.get(name, larger)
            views, _ = policy(name, shape(1, 16, frozenset({"intensity"})), **options)({"image": x}, seeded())
            assert all((v[..., :4].mean((1, 2, 3)) >= v[..., -4:].mean((1, 2, 3))).all() for v in views), name
    grey = images(50, 1, 32, 32).expand(-1, 3, -1, -1).contiguous()
    for name in set(NAMES) - {"corrupted"}:  # whose noise is of each value
        plain: dict[str, dict[str, object]] = {"neighbours": {"colours": "keep"}, "patch-grid-v2": {"drop": 0.0}}
        for view in policy(name, shape(3, 32), **plain.get(name, {}))({"image": grey}, seeded())[0]:
            red, green, blue = view.unbind(-3)
            torch.testing.assert_close(red, green, rtol=0, atol=1e-5)
            torch.testing.assert_close(red, blue, rtol=0, atol=1e-5)


def test_without_colour_but_with_intensity_the_ratio_of_channels_is_only_scaled_and_shifted() -> None:
    view = policy("simclr", shape(invariances=frozenset({"intensity"}))).parts[0]  # type: ignore[attr-defined]
    assert view.brightness and view.contrast and not (view.saturation or view.hue or view.grey)
    view = policy("simclr", shape(channels=5)).parts[0]  # type: ignore[attr-defined]
    assert view.brightness and not (view.saturation or view.hue or view.grey)


def test_the_numbers_are_the_papers() -> None:
    def parts(name: str, size: int, **options: object) -> list[View]:
        found: list[View] = policy(name, shape(size=size), **options).parts  # type: ignore[attr-defined]
        return found

    def colours(view: View) -> list[float]:
        return [view.jitter, view.brightness, view.contrast, view.saturation, view.hue, view.grey]

    a, b = parts("simclr", 224)
    assert a == b and (a.scale, a.mirror, a.blur, a.sigma) == ((0.08, 1.0), 0.5, 0.5, (0.1, 2.0))
    assert colours(a) == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.2, 0.2])
    assert colours(parts("simclr", 32, strength=0.5)[0]) == pytest.approx([0.8, 0.4, 0.4, 0.4, 0.1, 0.2])
    a, b = parts("moco-v1", 224)
    assert a == b and (a.scale, a.blur) == ((0.2, 1.0), 0) and colours(a) == pytest.approx([1, 0.4, 0.4, 0.4, 0.4, 0.2])
    assert parts("instance", 224) == [a]
    a, b = parts("moco-v2", 224)
    assert a == b and (a.scale, a.blur) == ((0.2, 1.0), 0.5) and colours(a) == pytest.approx([0.8, 0.4, 0.4, 0.4, 0.1, 0.2])
    a, b = parts("byol", 224)
    assert colours(a) == colours(b) == pytest.approx([0.8, 0.4, 0.4, 0.2, 0.1, 0.2])
    assert (a.blur, b.blur, a.solarise, b.solarise, a.scale) == (1.0, 0.1, 0.0, 0.2, (0.08, 1.0))
    crops = parts("multi-crop", 224)
    assert [c.size for c in crops] == [224] * 2 + [96] * 6
    assert [c.scale for c in crops] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 6
    for name in ("simclr", "moco-v2", "byol", "multi-crop"):
        assert all(view.blur == 0 for view in parts(name, 32))
        assert parts(name, 32, blur=0.7)[0].blur == 0.7


def test_a_shifted_crop_moves_by_at_most_an_eighth() -> None:
    x = torch.full((300, 1, 32, 32), 255, dtype=torch.uint8)
    view = policy("crop", shape(1, 32))({"image": x}, seeded())[0][0]
    dark = 32 - view.amax((1, 3)).sum(1)
    assert set(dark.int().tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("simclr", {"mirror": 1.3}, "mirror 1.3"),
        ("simclr", {"scale": (1.0, 0.2)}, "upside down"),
        ("simclr", {"scale": (0.0, 1.0)}, "scale 0.0"),
        ("simclr", {"strength": -1.0}, "strength -1.0"),
        ("simclr", {"strength": "much"}, "'much'"),
        ("moco-v2", {"hue": 2.0}, "hue 2.0 .*and 1"),
        ("moco-v2", {"blur": float("nan")}, "blur is nan"),
        ("byol", {"solarise_second": -0.1}, "solarise -0.1"),
        ("multi-crop", {"large": 0}, "large 0"),
        ("multi-crop", {"small": 2.5}, "whole number"),
        ("multi-crop", {"small_size": 100}, "small_size 100"),
        ("crop", {"pad": 2.0}, "pad 2.0"),
        ("crop", {"views": 0}, "views 0"),
        ("affine", {"rotation": 400.0}, "rotation 400.0"),
        ("affine", {"scale": (1.2, 0.8)}, "upside down"),
        ("affine", {"border": "wrap"}, "'wrap'"),
        ("affine", {"nonsense": 1}, "no option"),
    ],
)
def test_a_bad_option_is_named(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as error:
        policy(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("made", [Distorted, Byol, MultiCrop, Crop, Affine, Pirl])
def test_a_range_is_two_numbers_in_python_too(made: Callable[..., Views]) -> None:
    with pytest.raises(UserError, match="two numbers"):
        made(shape(), scale=0.5)


@pytest.mark.parametrize(("option", "invariance"), [("flip", "flip"), ("turn", "rotation")])
def test_flips_and_turns_need_the_invariance(option: str, invariance: str) -> None:
    with pytest.raises(UserError, match=f"{option} 0.5 .*{invariance}"):
        policy("simclr", shape(invariances=EVERYTHING - {invariance}), **{option: 0.5})


def test_affine_without_distortion_is_the_picture_and_shifts_by_no_more_than_asked() -> None:
    still = {"shift": 0.0, "rotation": 0.0, "shear": 0.0, "scale": (1.0, 1.0), "jitter": 0.0, "mirror": 0.0}
    x = images(5, 1, 16, 16)
    for view in policy("affine", shape(1, 16), **still)({"image": x}, seeded())[0]:
        torch.testing.assert_close(view, x.float() / 255, rtol=0, atol=2e-5)
    for view in policy("affine", shape(1, 16), **{**still, "mirror": 1.0})({"image": x}, seeded())[0]:
        torch.testing.assert_close(view, x.flip(3).float() / 255, rtol=0, atol=2e-5)
    dot = torch.zeros(500, 1, 17, 17, dtype=torch.uint8)
    dot[..., 8, 8] = 255
    view = policy("affine", shape(1, 17), **{**still, "shift": 0.2})({"image": dot}, seeded())[0][0]
    at = (view.sum((1, 2)) * torch.arange(17)).sum(1) / view.sum((1, 2, 3))
    assert 3.2 < float((at - 8).abs().max()) <= 0.2 * 17 + 1e-3
