"""`Embedder`: scikit-learn's own checks of a transformer, and what it says of images, runs and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import images
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import unlabeled
from unlabeled.sklearn import Embedder

TINY: dict[str, Any] = {
    "encoder": "resnet9", "epochs": 1, "batch_size": 8, "accelerator": "cpu", "options": {"encoder.width": 2}
}  # fmt: skip


def pretrained(folder: Path, x: Any) -> Path:
    unlabeled.pretrain(
        x, out=folder, epochs=1, batch_size=16, accelerator="cpu", monitor_every=0, options={"encoder.width": 4}
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("sklearn") / "run", images()[0])


@parametrize_with_checks([Embedder(**TINY)])
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_run_gives_the_features_that_embed_writes(run: Path, tmp_path: Path) -> None:
    x, _ = images(20, seed=3)
    np.savez(tmp_path / "x.npz", x=x)
    with np.load(unlabeled.embed(run, tmp_path / "x.npz", out=tmp_path / "z.npz", accelerator="cpu")) as z:
        expected = z["embedding"]
    embedder = Embedder(run=run, accelerator="cpu")
    h = embedder.fit_transform(x)
    assert_allclose(h, expected, atol=1e-5)
    assert h.dtype == np.float32
    rows = x.reshape(20, -1)
    assert_array_equal(embedder.transform(rows), h)  # in the layout that fit met
    assert_array_equal(Embedder(run=run, accelerator="cpu").fit_transform(rows), h)  # 3s² values: (s, s, 3)
    first = x.transpose(0, 3, 1, 2)
    assert_array_equal(Embedder(run=run, accelerator="cpu").fit_transform(first), h)
    said = Embedder(run=run, accelerator="cpu", image_shape=(3, 8, 8))
    assert_array_equal(said.fit_transform(first.reshape(20, -1)), h)
    assert_array_equal(Embedder(run=run, accelerator="cpu").fit_transform(x / 255), h.astype(np.float64))
    assert_array_equal(embedder.get_feature_names_out()[:2], ["embedder0", "embedder1"])


def test_the_features_of_a_row_do_not_depend_on_its_neighbours(run: Path) -> None:
    x, _ = images(40, seed=4)
    embedder = Embedder(run=run, accelerator="cpu").fit(x)
    assert_array_equal(
        np.concatenate([embedder.transform(x[i : i + 1]) for i in (0, 7, 39)]), embedder.transform(x)[[0, 7, 39]]
    )


@pytest.mark.parametrize(("values", "shape"), [(64, (8, 8)), (192, (8, 8, 3)), (10, (4, 4)), (1, (1, 1)), (3, (1, 1, 3))])
def test_how_rows_are_read(values: int, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, values), dtype=np.uint8)
    embedder = Embedder(**TINY).fit(x)
    assert embedder.image_shape_ == shape
    held = embedder._images(x).reshape(9, -1)
    assert_array_equal(held[:, :values], x)
    assert not held[:, values:].any()


@pytest.mark.parametrize(
    ("x", "said", "expected"),
    [
        (np.array([[0, 7, 255, 3]], np.uint8), None, [0, 7, 255, 3]),
        (np.array([[0.0, 0.2, 0.6, 0.4]]), None, [0, 51, 153, 102]),
        (np.array([[0, 4, 8, 16]]), None, [0, 64, 128, 255]),
        (np.array([[-1.0, 0.0, 1.0, 3.0]]), (-1.0, 1.0), [0, 128, 255, 255]),
        (np.array([[5.0, 5.0, 5.0, 5.0]]), None, [0, 0, 0, 0]),
    ],
)
def test_values_become_grey_values(x: Any, said: Any, expected: list[int]) -> None:
    rows = np.repeat(x, 8, axis=0)
    embedder = Embedder(value_range=said, **TINY).fit(rows)
    assert embedder._images(rows)[0].ravel().tolist() == expected


def test_it_stands_at_the_head_of_a_pipeline(run: Path) -> None:
    x, y = images(90)
    pipeline = clone(make_pipeline(Embedder(run=run, accelerator="cpu"), LogisticRegression(max_iter=500)))
    assert pipeline.fit(x[:60], y[:60]).score(x[60:], y[60:]) > 0.8  # chance is a third


def test_it_trains_on_all_images_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    x, _ = images(24)
    first = Embedder(**TINY).fit(x)
    assert capsys.readouterr().out == ""
    assert_allclose(first.encoder_.front.mean.flatten().numpy(), x.mean((0, 1, 2)) / 255, atol=1e-5)
    assert_array_equal(clone(first).fit(x).transform(x), first.transform(x))
    assert not np.array_equal(clone(first).set_params(random_state=1).fit(x).transform(x), first.transform(x))


def test_what_cannot_be_is_refused(run: Path) -> None:
    x, _ = images(20)
    with pytest.raises(ValueError, match="epochs: of no use with a trained run"):
        Embedder(run=run, epochs=3).fit(x)
    with pytest.raises(ValueError, match="images of 1 channel "):
        Embedder(run=run).fit(x[..., 0])
    with pytest.raises(ValueError, match="fit met"):
        Embedder(run=run, accelerator="cpu").fit(x).transform(x.reshape(20, 4, 16, 3))
    with pytest.raises(ValueError, match="a row of X has 192 values"):
        Embedder(run=run, image_shape=(9, 9)).fit(x.reshape(20, -1))
    with pytest.raises(ValueError, match="value_range"):
        Embedder(run=run, value_range=(1, 0)).fit(x)
    with pytest.raises(unlabeled.UserError, match="did you mean 'simclr'"):
        Embedder(method="simlcr").fit(x)
    with pytest.raises(unlabeled.UserError, match="holds no run"):
        Embedder(run="nowhere").fit(x)
