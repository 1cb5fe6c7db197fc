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

from unlabeled.data import balanced_draw
from unlabeled.errors import UserError
from unlabeled.probes import linear
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.linear import CANDIDATES, Linear
from unlabeled.probes.softmax import minimise
from unlabeled.probes.spelling import parse_protocol


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
    for C in (0, -1.0, float("nan")):
        with pytest.raises(UserError, match="C must be above 0"):
            Linear(C=C).fit(torch.randn(3, 2), y)
    with pytest.raises(UserError, match="a number or one of 'auto'"):
        parse_protocol("linear:C=best")
    with pytest.raises(ValueError, match="NaN"):
        Linear().fit(torch.full((3, 2), torch.inf), y)


def blobs(n: int, spread: float, classes: int = 5, dim: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes that overlap, in features of very different sizes: (n, dim) and (n,)."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    y = torch.arange(n) % classes
    return (centres[y] + spread * torch.randn(n, dim, generator=generator)) * torch.logspace(0, -1, dim), y


@pytest.mark.parametrize("C", [0.01, 0.1])
@pytest.mark.parametrize("classes", [2, 5])
def test_gradient_descent_finds_scikit_learns_minimum(C: float, classes: int) -> None:
    h, y = blobs(2000, 1.0, classes)
    weight, bias = minimise(lambda rows: h[rows], y, classes, h.shape[1], C=C, seed=0)
    peer = LogisticRegression(C=C, max_iter=2000, tol=1e-8).fit(h.numpy(), y.numpy())
    theirs, offset = torch.from_numpy(peer.coef_).float(), torch.from_numpy(peer.intercept_).float()
    if classes == 2:  # one logit against two of opposite signs: half the squared weights, so C counts double
        peer = LogisticRegression(C=2 * C, max_iter=2000, tol=1e-8).fit(h.numpy(), y.numpy())
        theirs = torch.from_numpy(np.concatenate([-peer.coef_, peer.coef_])).float() / 2
        offset = torch.from_numpy(np.concatenate([-peer.intercept_, peer.intercept_])).float() / 2

    def objective(w: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(h @ w.T + b, y) + w.square().sum() / (2 * C * len(y)))

    assert objective(theirs, offset) <= objective(weight, bias) + 1e-6
    assert objective(weight, bias) == pytest.approx(objective(theirs, offset), abs=1e-3)
    torch.testing.assert_close(weight.softmax(0), theirs.softmax(0), rtol=0, atol=0.03)


def test_a_large_set_is_fitted_by_gradient_descent_to_the_accuracy_of_l_bfgs(monkeypatch: pytest.MonkeyPatch) -> None:
    h, y = blobs(4000, 1.5)
    (train, test), (labels, truth) = h.split(2000), y.split(2000)
    exact = Linear().fit(train, labels).score(test, truth)["top1"]
    calls = []
    monkeypatch.setattr(linear, "minimise", lambda *args, **more: calls.append(args[2]) or minimise(*args, **more))
    assert Linear().fit(train, labels).score(test, truth)["top1"] == exact
    assert not calls
    monkeypatch.setattr(linear, "LARGE", train.numel() * 5)
    descended = Linear().fit(train, labels)
    assert calls == [5]
    standard_error = (exact * (1 - exact) / len(test)) ** 0.5
    assert 0.4 < exact < 0.95
    assert descended.score(test, truth)["top1"] == pytest.approx(exact, abs=standard_error)
    assert torch.equal(descended.weight_, Linear().fit(train, labels).weight_)


def test_c_is_the_best_on_held_out_training_samples() -> None:
    h, y = blobs(300, 3.0, dim=60)
    test, truth = blobs(3000, 3.0, dim=60, seed=1)
    probe = Linear(C="auto").fit(h, y)
    shares = {C: Linear(C=C).fit(h, y).score(test, truth)["top1"] for C in CANDIDATES}
    assert max(shares.values()) - min(shares.values()) > 0.04
    assert shares[probe.C_] > max(shares.values()) - 0.02
    assert probe.notes_ == []
    alone = Linear(C=probe.C_).fit(h, y)
    torch.testing.assert_close(probe.weight_, alone.weight_, rtol=0, atol=1e-6)
    assert Linear(C="auto").fit(h, y).C_ == probe.C_


@pytest.mark.parametrize(("n", "kept"), [(2000, [1600]), (200, [160] * 5), (10, [8] * 5)])
def test_held_out_parts_have_every_class_and_are_not_fitted_on(
    n: int, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fifth of many, each fifth in turn of few."""
    h, y = blobs(n, 1.0)
    seen = []
    real = Linear._path
    monkeypatch.setattr(Linear, "_path", lambda self, h, y, C: seen.append((h, y)) or real(self, h, y, C))
    Linear(C="auto").fit(h, y)
    *parts, (every, _) = seen
    assert torch.equal(every, h)
    assert [len(part) for part, _ in parts] == kept
    left_out = []
    for part, labels in parts:
        assert len(set(np.bincount(labels, minlength=5).tolist()) - {0}) <= 2
        assert set(labels.tolist()) == set(range(5))
        left_out.append(set(range(n)) - set(torch.cdist(part, h).argmin(1).tolist()))
    assert [len(out) for out in left_out] == [n - k for k in kept]
    assert len(parts) == 1 or set.union(*left_out) == set(range(n))


@pytest.mark.parametrize(("amount", "seed"), [(2, 9), (3, 0), (8, 6)])
def test_few_labels_are_no_reason_for_a_bad_choice(
    digits: tuple[torch.Tensor, torch.Tensor], amount: int, seed: int
) -> None:
    """On pixels C = 1 is about the best whatever the number of labels. Chosen on a fifth of these, it was 4 to 8 points
    worse."""
    h, y = digits
    at = torch.from_numpy(balanced_draw(y[:900].numpy(), amount, seed))
    chosen, usual = (Linear(C=C).fit(h[at], y[at], reference=h[:900]).score(h[900:], y[900:])["top1"] for C in ("auto", 1.0))
    assert chosen > usual - 0.01


def test_a_rare_class_is_held_out_where_it_has_two_samples_and_kept_where_it_has_one() -> None:
    h, y = blobs(60, 0.3)
    rare = torch.cat([y, torch.tensor([5, 5, 6])])
    probe = Linear(C="auto").fit(torch.cat([h, h[:3] + 5]), rare)
    assert probe.classes_.tolist() == list(range(7))
    assert probe.notes_ == [] and probe.chosen_ == {"C": probe.C_}


def test_with_one_label_a_class_nothing_is_chosen() -> None:
    h, y = torch.randn(4, 6), torch.arange(4)
    probe = Linear(C="auto").fit(h, y)
    assert probe.C_ == 1
    assert torch.equal(probe.weight_, Linear(C=1.0).fit(h, y).weight_)
    assert probe.notes_ == ["linear: too few labels to hold some out, so C is 1 and was not chosen"]
    assert probe.chosen_ == {} == Linear(C=0.1).fit(*blobs(50, 1.0)).chosen_
    assert Linear(C="auto").fit(torch.randn(5, 6), torch.full((5,), 2)).predict(h).tolist() == [2] * 4


def test_the_choice_sees_no_test_label(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    h, y = digits
    right, wrong = (
        evaluate_features(
            h[:300], y[:300], h[300:600], (y[300:600] + shift) % 10, protocol=parse_protocol("linear:C=auto").choice
        )
        for shift in (0, 1)
    )  # fmt: skip
    assert right.notes == wrong.notes
    assert right.mean() > 0.85 and wrong.mean() < 0.15
    assert right.title == "linear"
    assert right.chosen == wrong.chosen and set(right.chosen) == {"C"}
