"""Linear against scikit-learn's own pipeline, and in its corner cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer

from unlabeled.errors import UserError
from unlabeled.probes.linear import Linear


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    return torch.from_numpy(data.data / 16).float(), torch.from_numpy(data.target).long()


def pipeline(reference: torch.Tensor, C: float) -> object:
    """The same classifier made of scikit-learn's parts; the scaling is written out again."""
    unit = Normalizer().fit_transform(reference.numpy().astype(np.float32))
    own, overall = unit.std(0), np.sqrt(unit.var(0).mean())
    divisor = np.where(own > 0, np.sqrt(own * overall), 1).astype(np.float32)
    scale = FunctionTransformer(lambda x: (x - unit.mean(0)) / divisor)
    return make_pipeline(Normalizer(), scale, LogisticRegression(C=C, max_iter=2000))


@pytest.mark.parametrize("C", [0.01, 1.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_equals_scikit_learns_pipeline(digits: tuple[torch.Tensor, torch.Tensor], C: float, classes: int) -> None:
    h, y = (t[digits[1] < classes] for t in digits)
    train, test = slice(0, 150), slice(150, None)
    peer = pipeline(h, C)
    peer.fit(h[train].numpy(), y[train].numpy())  # type: ignore[attr-defined]
    probe = Linear(C=C).fit(h[train], y[train], reference=h)
    expected = peer.predict_proba(h[test].numpy())  # type: ignore[attr-defined]
    np.testing.assert_allclose(probe.predict_log_proba(h[test]).exp().numpy(), expected, atol=2e-3)
    score = probe.score(h[test], y[test])
    assert score["top1"] == pytest.approx(peer.score(h[test].numpy(), y[test].numpy()), abs=1e-3)  # type: ignore[attr-defined]
    if classes > 5:
        assert score["top5"] == pytest.approx(top_k_accuracy_score(y[test].numpy(), expected, k=5), abs=1e-3)


def test_top5_counts_only_with_more_than_five_classes() -> None:
    h = torch.eye(6)
    y = torch.arange(6)
    assert set(Linear().fit(h, y).score(h, y)) == {"top1", "top5"}
    assert set(Linear().fit(h[:5], y[:5]).score(h, y)) == {"top1"}


def test_reference_alone_sets_mean_and_scale() -> None:
    h, y = torch.randn(20, 4), torch.arange(20) % 2
    few, all_ = Linear().fit(h[:10], y[:10], reference=h), Linear().fit(h, y)
    assert torch.equal(few.mean_, all_.mean_)
    assert torch.equal(few.scale_, all_.scale_)
    assert not torch.equal(few.weight_, all_.weight_)


def test_constant_features_and_constant_columns_divide_by_nothing() -> None:
    y = torch.arange(12) % 3
    same = Linear().fit(torch.full((12, 5), 0.3), y)
    assert same.predict_log_proba(torch.full((2, 5), 0.3)).exp().sum(1).tolist() == pytest.approx([1, 1])
    assert Linear().fit(torch.zeros(12, 5), y).weight_.isfinite().all()
    h = torch.cat([torch.eye(3)[y], torch.ones(12, 1), torch.zeros(12, 1)], dim=1)
    probe = Linear().fit(h, y)
    assert probe.score(h, y)["top1"] == 1
    assert probe.weight_.isfinite().all()


def test_labels_keep_their_names() -> None:
    h, y = torch.eye(2).repeat(4, 1), torch.tensor([11, -5]).repeat(4)
    assert Linear().fit(h, y).predict(torch.eye(2)).tolist() == [11, -5]


def test_one_class_is_predicted_for_everything() -> None:
    probe = Linear().fit(torch.randn(3, 4), torch.full((3,), 7))
    assert probe.predict(torch.randn(5, 4)).tolist() == [7] * 5
    assert probe.score(torch.randn(2, 4), torch.tensor([7, 1])) == {"top1": 0.5}


def test_an_unfinished_fit_is_a_note_and_no_warning(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    h, y = digits
    probe = Linear(max_iter=2).fit(h[:100], y[:100])
    assert probe.notes_ == ["linear: not converged after max_iter = 2 iterations"]
    probe.max_iter = 2000
    assert probe.fit(h[:100], y[:100]).notes_ == []


def test_same_data_same_weights(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    h, y = digits
    assert torch.equal(Linear().fit(h[:200], y[:200]).weight_, Linear().fit(h[:200], y[:200]).weight_)


def test_bad_options_and_features_are_refused() -> None:
    y = torch.arange(3)
    with pytest.raises(UserError, match="C must be above 0"):
        Linear(C=0).fit(torch.randn(3, 2), y)
    with pytest.raises(ValueError, match="NaN"):
        Linear().fit(torch.full((3, 2), torch.inf), y)
