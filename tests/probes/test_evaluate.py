"""Draws, leakage, amounts, and the score that goes into a table."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from unlabeled.data.split import parse_amount
from unlabeled.errors import UserError
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.knn import KNN
from unlabeled.probes.linear import Linear
from unlabeled.probes.score import Score
from unlabeled.probes.spelling import parse_protocol
from unlabeled.registry import Choice, get, names

PROTOCOLS = [Choice("knn"), Choice("linear")]


def clusters(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four overlapping clusters, balanced: (n, 8), labels (n,)."""
    y = torch.arange(n) % 4
    centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(7))
    return centres[y] + torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), y


@pytest.fixture
def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (*clusters(200, 0), *clusters(120, 1))


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Everything that any probe's `fit` is given, in order; the probes work as ever."""
    seen: list[dict[str, Any]] = []
    for probe in (KNN, Linear):
        original = probe.fit

        def fit(self: Any, h: Tensor, y: Tensor, *, reference: Tensor | None = None, original: Any = original) -> Any:
            seen.append({"h": h, "y": y, "reference": reference})
            return original(self, h, y, reference=reference)

        monkeypatch.setattr(probe, "fit", fit)
    return seen


def rows(h: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in h.tolist()}


def test_probes_are_found_by_name() -> None:
    assert {"knn", "linear"} <= set(names("probes"))
    for name in ("knn", "linear"):
        assert all(option.help for option in get("probes", name).options().values()), "an option without its line of help"


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda c: c.name)
def test_draws_repeat_by_seed_and_differ_between_seeds(
    split: tuple[Tensor, Tensor, Tensor, Tensor], protocol: Choice, fitted: list[dict[str, Any]]
) -> None:
    a, b = (evaluate_features(*split, protocol=protocol, amount=2, draws=4, seed=3) for _ in range(2))
    assert a == b
    c = evaluate_features(*split, protocol=protocol, amount=2, draws=4, seed=50)
    assert a.metrics != c.metrics
    drawn = [rows(call["h"]) for call in fitted]
    assert drawn[:4] == drawn[4:8]
    assert all(one != other for i, one in enumerate(drawn[4:]) for other in drawn[5 + i :])
    shifted = evaluate_features(*split, protocol=protocol, amount=2, draws=3, seed=4)
    assert shifted.metrics["top1"] == a.metrics["top1"][1:], "draw i has seed + i"


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda c: c.name)
@pytest.mark.parametrize(("amount", "each"), [(1, 1), (5, 5), (0.1, 5), (1.0, 50)])
def test_draws_are_balanced_and_of_the_amount(
    split: tuple[Tensor, Tensor, Tensor, Tensor],
    protocol: Choice,
    amount: int | float,
    each: int,
    fitted: list[dict[str, Any]],
) -> None:
    score = evaluate_features(*split, protocol=protocol, amount=amount, draws=3, seed=0)
    assert score.draws == len(fitted) == (1 if each == 50 else 3), "all labels need one fit"
    assert score.labelled == [4 * each] * score.draws
    assert all(call["y"].bincount().tolist() == [each] * 4 for call in fitted)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda c: c.name)
def test_nothing_of_the_test_split_reaches_fit(
    split: tuple[Tensor, Tensor, Tensor, Tensor], protocol: Choice, fitted: list[dict[str, Any]]
) -> None:
    train_h, train_y, test_h, test_y = split
    evaluate_features(train_h, train_y, test_h, test_y + 100, protocol=protocol, amount=5, draws=2, seed=0)
    for call in fitted:
        assert call["y"].max() < 100
        assert rows(call["h"]) | rows(call["reference"]) <= rows(train_h)


def test_a_label_that_was_not_drawn_is_not_used(split: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """The same figures when every label outside the draw is wrong but leaves the draw as it is."""
    from unlabeled.data import balanced_draw

    train_h, train_y, test_h, test_y = split
    drawn = torch.from_numpy(balanced_draw(train_y.numpy(), 5, 0))
    only = torch.full_like(train_y, -1)
    only[drawn] = train_y[drawn]
    for protocol in PROTOCOLS:
        few = evaluate_features(train_h, train_y, test_h, test_y, protocol=protocol, amount=5, draws=1, seed=0)
        all_of_few = evaluate_features(train_h, only, test_h, test_y, protocol=protocol, amount=1.0, draws=1, seed=0)
        assert few.metrics == all_of_few.metrics


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda c: c.name)
def test_unlabelled_images_are_neither_drawn_nor_scored_but_lend_their_statistics(
    split: tuple[Tensor, Tensor, Tensor, Tensor], protocol: Choice, fitted: list[dict[str, Any]]
) -> None:
    train_h, train_y, test_h, test_y = split
    train_y = torch.where(torch.arange(200) < 80, train_y, -1)
    test_y = torch.where(torch.arange(120) < 60, test_y, -1)
    score = evaluate_features(train_h, train_y, test_h, test_y, protocol=protocol, amount=1.0, draws=1, seed=0)
    assert (score.labelled, score.tested) == ([80], 60)
    assert fitted[0]["y"].min() == 0
    assert rows(fitted[0]["h"]) == rows(train_h[:80])
    assert fitted[0]["reference"] is train_h
    kept = evaluate_features(train_h, train_y, test_h[:60], test_y[:60], protocol=protocol, amount=1.0, draws=1, seed=0)
    assert score == kept


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda c: c.name)
def test_inputs_are_left_as_they_were(split: tuple[Tensor, Tensor, Tensor, Tensor], protocol: Choice) -> None:
    before = [t.clone() for t in split]
    evaluate_features(*split, protocol=protocol, amount=0.1, draws=2, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(split, before, strict=True))


def test_options_reach_the_probe_and_notes_the_score(split: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    score = evaluate_features(*split, protocol=Choice("linear", {"max_iter": 1, "C": 1.0}), amount=5, draws=3, seed=0)
    assert score.options == {"max_iter": 1, "C": 1.0}
    assert score.notes == ["linear: not converged after max_iter = 1 iteration"]
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        evaluate_features(*split, protocol=Choice("knn", {"temprature": 1}), amount=5, draws=3, seed=0)


def test_missing_labels_and_broken_features_are_named(split: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    train_h, train_y, test_h, test_y = split
    with pytest.raises(UserError, match="the test split has no labels"):
        evaluate_features(train_h, train_y, test_h, torch.full_like(test_y, -1), protocol=PROTOCOLS[0], seed=0)
    with pytest.raises(UserError, match="features of the training split are not finite"):
        evaluate_features(train_h / 0, train_y, test_h, test_y, protocol=PROTOCOLS[0], seed=0)
    with pytest.raises(UserError, match="draws = 0"):
        evaluate_features(*split, protocol=PROTOCOLS[0], draws=0)


def test_score_is_json_and_text() -> None:
    score = Score("knn", {"k": 5}, 1, 3, 0, [10, 10, 10], 360, {"top1": [0.5, 0.6, 0.7]}, [])
    assert score.mean() == pytest.approx(0.6)
    assert score.std() == pytest.approx(0.1)
    assert score.text() == "60.0 ± 10.0%"
    assert json.loads(json.dumps(score.json()))["metrics"] == {"top1": [0.5, 0.6, 0.7]}
    single = Score("knn", {}, 1.0, 1, 0, [1437], 360, {"top1": [0.967]}, [])
    assert single.std() is None
    assert single.text() == "96.7%"


@pytest.mark.parametrize(
    ("text", "amount"), [("1", 1), ("5", 5), ("1%", 0.01), ("100%", 1.0), ("0.5%", 0.005), (".5%", 0.005), ("12.5%", 0.125)]
)
def test_parse_amount(text: str, amount: int | float) -> None:
    parsed = parse_amount(text)
    assert parsed == amount
    assert type(parsed) is type(amount)


@pytest.mark.parametrize("text", ["", "0", "-1", "0%", "101%", "0.1", "1.0", "x", "%", "1 %", "1e2", "nan%", "٣", "5\n"])
def test_parse_amount_refuses(text: str) -> None:
    with pytest.raises(UserError, match="images per class"):
        parse_amount(text)


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("finetune:100%:epochs=1", "finetune:100%,epochs=1"),
        ("finetune:4:epochs=1", "finetune:4,epochs=1"),
        ("finetune:epochs=1:10%", "finetune:epochs=1,10%"),
        ("finetune:10%:epochs=1:batch-size=4", "finetune:10%,epochs=1,batch-size=4"),
        ("few-shot:ways=10:shots=5", "few-shot:ways=10,shots=5"),
    ],
)
def test_a_colon_too_many_is_answered_with_the_right_spelling(text: str, better: str) -> None:
    with pytest.raises(UserError) as error:
        parse_protocol(text)
    assert str(error.value).endswith(f": write {better}")
    parse_protocol(better)


@pytest.mark.parametrize("text", ["attention", "attention:images=17", "attention:images=3,17"])
def test_the_title_is_what_one_asks_for(text: str) -> None:
    asked = parse_protocol(text).choice
    for options in (asked.options, json.loads(json.dumps(asked.options))):
        assert Score(asked.name, options, 1.0, 1, 0, [0], 1, {}, []).title == text
