"""Exemplars: where seeds lie, how far their transformations go, and both forms of the loss in loops."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.exemplar import Exemplar
from unlabeled.views.policies.exemplars import Exemplars, along_components, seeds

from .small import RESNET, SHAPE, array, at, images, make

STILL: dict[str, Any] = {"translation": 0.0, "rotation": 0.0, "scale": (1.0, 1.0), "contrast": (1.0, 1.0)}
STILL |= {"power": (1.0, 1.0), "factor": (1.0, 1.0), "shift": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int = 4, side: int = 16, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=seeded())


def view(x: Tensor, shape: DataShape | None = None, **options: Any) -> Tensor:
    made = Exemplars(shape or DataShape(9, x.shape[1], x.shape[3]), views=1, **{**STILL, **options})
    return made({"image": x}, seeded())[0][0]


def test_the_seed_is_where_gradients_are_strong() -> None:
    """And the same whenever it is asked for: a surrogate class is one patch."""
    x = torch.zeros(2, 3, 32, 32)
    x[0, :, 2:8, 20:26] = noise(1, 6)[0] / 255
    x[1, :, 21:27, 5:11] = noise(1, 6)[0] / 255
    found = (seeds(x, 12) + 1) * 16  # pixels
    for i, (across, down) in enumerate(((23, 5), (8, 24))):
        assert abs(float(found[i, 0]) - across) <= 6
        assert abs(float(found[i, 1]) - down) <= 6
    energy = np.zeros((21, 21))
    gradient = array(torch.as_tensor(np.hypot(*np.gradient(array(x[0, 0])))))
    for row in range(21):
        for column in range(21):
            energy[row, column] = (gradient[row : row + 12, column : column + 12] ** 2).mean()
    best = np.unravel_index(energy.argmax(), energy.shape)
    assert abs(best[1] + 6 - float(found[0, 0])) <= 4, "by other differences, nearly the same"
    assert torch.equal(seeds(x, 32), torch.zeros(2, 2))


def test_a_view_of_a_seed_that_is_not_changed_is_that_part_of_the_picture() -> None:
    x = noise(3, 16)
    made = Exemplars(DataShape(9, 3, 8), views=1, patch=8, **STILL)
    (found,), _ = made({"image": x}, seeded())
    corner = ((seeds(x.float() / 255, 8) + 1) * 8 - 4).round().long()
    for i, (left, top) in enumerate(corner.tolist()):
        torch.testing.assert_close(found[i], x[i, :, top : top + 8, left : left + 8] / 255, rtol=0, atol=1e-4)


def test_transformations_stay_within_the_papers_ranges_and_reach_them() -> None:
    drawn = Exemplars(DataShape(9, 3, 16)).draw(4000, 3, seeded())
    ranges = {"right": (-0.2, 0.2), "down": (-0.2, 0.2), "scale": (0.7, 1.4), "degrees": (-20, 20), "power": (0.25, 4)}
    ranges |= {"factor": (0.7, 1.4), "saturation": (-0.1, 0.1), "value": (-0.1, 0.1), "contrast": (0.5, 2)}
    assert drawn.keys() == ranges.keys()
    for name, (low, high) in ranges.items():
        values, near = drawn[name], 0.01 * (high - low)
        assert low <= float(values.min()) < low + near < high - near < float(values.max()) <= high, name
    assert drawn["contrast"].shape == (4000, 3)


def test_translation_scale_and_rotation_are_of_the_patch() -> None:
    x = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    x[0, 0, 16, 16] = 255
    made = Exemplars(DataShape(9, 1, 33), views=1, patch=33)
    here = {"right": torch.tensor([0.2]), "down": torch.tensor([-0.1]), "scale": torch.ones(1), "degrees": torch.zeros(1)}
    moved = made.moved(x / 255, torch.zeros(1, 2), here)
    row, column = divmod(int(moved.argmax()), 33)
    assert (row - 16, column - 16) == (round(-0.1 * 33), round(0.2 * 33))
    bar = torch.zeros(1, 1, 33, 33)
    bar[0, 0, 16, 6:27] = 1
    still = here | {"right": torch.zeros(1), "down": torch.zeros(1)}
    grown = made.moved(bar, torch.zeros(1, 2), still | {"scale": torch.tensor([1.4])})
    assert int((grown[0, 0, 16] > 0.5).sum()) == pytest.approx(1.4 * 21, abs=1)
    turned = made.moved(bar, torch.zeros(1, 2), still | {"degrees": torch.tensor([20.0])})[0, 0]
    rows = torch.arange(33.0)[:, None]
    ends = [float((turned[:, c] * rows[:, 0]).sum() / turned[:, c].sum()) for c in (8, 24)]
    assert abs(ends[1] - ends[0]) == pytest.approx(16 * np.tan(np.deg2rad(20)), abs=0.5)


def test_contrast_grows_along_the_principal_components() -> None:
    x, factor = noise(2, 8) / 255, torch.tensor([[0.5, 1.0, 2.0], [2.0, 0.7, 1.3]])
    found = along_components(x, factor)
    for i in range(2):
        pixels = array(x[i]).reshape(3, -1)
        centred = pixels - pixels.mean(1, keepdims=True)
        _, v = np.linalg.eigh(centred @ centred.T)
        expected = pixels.mean(1, keepdims=True) + v @ np.diag(factor[i].double()) @ v.T @ centred
        np.testing.assert_allclose(array(found[i]).reshape(3, -1), expected, atol=1e-5)


def test_saturation_and_value_are_those_of_hsv() -> None:
    x = noise(1, 4) / 255
    made = Exemplars(DataShape(9, 3, 4), contrast=(1.0, 1.0))
    drawn = {"contrast": torch.ones(1, 3), "power": torch.tensor([0.5]), "factor": torch.tensor([0.8])}
    found = made.lit(x, drawn | {"saturation": torch.tensor([0.05]), "value": torch.tensor([-0.1])})
    for row in range(4):
        for column in range(4):
            h, s, v = colorsys.rgb_to_hsv(*array(x[0, :, row, column]))
            s, v = (min(1.0, max(0.0, a**0.5 * 0.8 + more)) for a, more in ((s, 0.05), (v, -0.1)))
            np.testing.assert_allclose(array(found[0, :, row, column]), colorsys.hsv_to_rgb(h, s, v), atol=1e-5)


def test_only_what_the_data_allow_is_changed() -> None:
    x, strong = noise(), {"contrast": (0.5, 2.0), "power": (0.25, 4.0), "shift": 0.1}
    nothing = view(x, DataShape(9, 3, 16, invariances=frozenset()), **strong)
    torch.testing.assert_close(nothing, x / 255, rtol=0, atol=1e-5)
    light = view(x, DataShape(9, 3, 16, invariances=frozenset({"intensity"})), **strong)
    assert not torch.allclose(light, x / 255, atol=0.1)
    hues = [
        [colorsys.rgb_to_hsv(*array(p))[0] for p in each.permute(0, 2, 3, 1).reshape(-1, 3)[:40]]
        for each in (light, x / 255)
    ]
    same = [abs(a - b) < 0.02 for a, b in zip(*hues, strict=True)]
    assert np.mean(same) > 0.7, "but where it is clipped"


def test_the_loss_is_the_cross_entropy_with_the_classes_of_the_seeds() -> None:
    method: Any = make("exemplar").eval()
    method.encoder.front.train()
    batch = images(16, 16)
    assert method.classifier.out_features == 64
    weight, bias = array(method.classifier.weight), array(method.classifier.bias)
    costs = []
    for views in batch.views:
        for i in range(6):
            logits = weight @ array(method.encoder(views[i][None]))[0] + bias
            costs.append(np.log(np.exp(logits).sum()) - logits[int(method.surrogate[i])])
    assert float(method(batch, at()).total.detach()) == pytest.approx(np.mean(costs), rel=1e-5)


def test_beyond_the_most_classes_the_loss_is_of_triplets() -> None:
    """Each view nearer to the other of its seed than to those of others, by 0.5 in the cosine."""
    method: Any = make("exemplar", RESNET, form="triplets").eval()
    method.encoder.front.train()
    batch = images(16, 16)
    z = [array(F.normalize(method.encoder(views), dim=1)) for views in batch.views]
    costs = []
    for a in (0, 1):
        for i in range(6):
            others = [z[b][j] for b in (0, 1) for j in range(6) if j != i]
            own = z[a][i] @ z[1 - a][i]
            costs.append(np.mean([max(0.0, z[a][i] @ other - own + 0.5) for other in others]))
    assert float(method(batch, at()).total.detach()) == pytest.approx(np.mean(costs), rel=1e-4)
    encoder = build_encoder(RESNET, 3, 16, torch.zeros(3), torch.ones(3))
    assert Exemplar(encoder, DataShape(32_001, 3, 16)).classifier is None
    assert Exemplar(encoder, DataShape(32_000, 3, 16)).classifier is not None


def test_images_without_a_class_are_never_drawn() -> None:
    method: Any = make("exemplar", RESNET, surrogates=10)
    weights = method.sampling()
    assert sorted(method.surrogate[weights > 0].tolist()) == list(range(10))
    assert int((weights == 0).sum()) == SHAPE.n - 10
    assert make("exemplar").sampling() is None
    batch = images(16, 16)
    left = Batch(batch.views, (weights == 0).nonzero()[:6, 0])
    assert float(method(left, at()).total.detach()) == 0


def test_pictures_show_which_seed_is_recognised() -> None:
    method: Any = make("exemplar").eval()
    method.encoder.front.train()
    batch = images(16)
    batch.views.append(batch.views[0].flip(0))
    shown = method.pictures(batch, at())
    assert torch.equal(shown["most like it"], batch.views[0]), "the same picture is most like it, wherever it stands"
    assert torch.equal(shown["of its seed"], batch.views[1])


def test_more_surrogate_classes_than_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"give --method.surrogates 64 or less"):
        make("exemplar", RESNET, surrogates=65)
    with pytest.raises(UserError, match="give more images"):
        Exemplar(make("exemplar").encoder, DataShape(1, 3, 16))
