"""FixMatch against loops over samples, and what the loop draws beside each batch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command import SMALL, file, mistake, ok
from torch import Tensor

from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.methods.fixmatch import FixMatch
from unlabeled.optim.schedules import part_of_cosine
from unlabeled.run import Run
from unlabeled.training.batches import labelled_order

from .small import RESNET

AT = Progress(0, 10, 0)


def made(**options: object) -> FixMatch:
    torch.manual_seed(0)
    encoder = build_encoder(RESNET, 3, 8, torch.zeros(3), torch.ones(3))
    return FixMatch(encoder, DataShape(100, 3, 8, 4), **options).eval()  # type: ignore[arg-type]


def batch(labelled: int = 3, unlabelled: int = 21) -> Batch:
    draw = torch.Generator().manual_seed(1)

    def images(n: int) -> Tensor:
        return torch.rand(n, 3, 8, 8, generator=draw)

    told = Batch([images(labelled), images(labelled)], torch.arange(labelled), {"label": torch.tensor([0, 3, 1])[:labelled]})
    return Batch([images(unlabelled), images(unlabelled)], torch.arange(unlabelled), {}, told)


def log_softmax(row: np.ndarray) -> np.ndarray:
    return row - row.max() - math.log(sum(math.exp(v - row.max()) for v in row))


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.95])
def test_it_is_the_paper_s_loss(threshold: float) -> None:
    """In evaluation mode, so that batch norms do not join the samples: eq. 3 and 4, a sample at a time."""
    method, of = made(threshold=threshold, weight=2.0), batch()
    with torch.no_grad():
        for part in method.classifier.parameters():
            part.mul_(16)  # so that some predictions are sure
        loss = method(of, AT)

        def logits(x: Tensor) -> np.ndarray:
            return method.classifier(method.encoder(x)).double().numpy()

        assert of.labelled is not None
        supervised = 0.0
        for row, label in zip(logits(of.labelled.views[0]), of.labelled.targets["label"].tolist(), strict=True):
            supervised -= log_softmax(row)[label] / 3
        unlabelled, sure = 0.0, 0
        for weak, strong in zip(logits(of.views[0]), logits(of.views[1]), strict=True):
            probability = np.exp(log_softmax(weak))
            if probability.max() >= threshold:
                sure += 1
                unlabelled -= log_softmax(strong)[int(probability.argmax())] / 21
    assert float(loss.total) == pytest.approx(supervised + 2 * unlabelled, rel=1e-4)
    assert float(loss.terms["sure"]) == pytest.approx(sure / 21)
    assert 0 < sure < 21 or threshold != 0.4, "the mask is not tried"


def test_no_gradient_goes_through_the_pseudo_label() -> None:
    """Of the unlabelled loss alone, by the weak views."""
    method, of = made(threshold=0.0), batch()
    of.views[0].requires_grad_()
    method(of, AT).total.backward()
    assert of.views[0].grad is not None
    assert not of.views[0].grad.any()


def test_labelled_samples_come_in_permutations_of_their_own() -> None:
    drawn = [labelled_order(3, 5, step * 4, 4) for step in range(10)]
    whole = np.concatenate(drawn)
    for first in range(0, 40, 5):
        assert sorted(whole[first : first + 5]) == list(range(5)), "each once before any comes again"
    assert len({tuple(whole[first : first + 5]) for first in range(0, 40, 5)}) > 1
    assert np.array_equal(labelled_order(3, 5, 12, 4), drawn[3]), "a function of the step"
    assert sorted(labelled_order(0, 3, 0, 12)) == sorted([0, 1, 2] * 4), "more than there are"


def test_the_rate_falls_to_a_fifth() -> None:
    assert part_of_cosine(Progress(0, 16, 0), 0.03, 0) == 0.03
    assert part_of_cosine(Progress(8, 16, 0), 0.03, 0) == pytest.approx(0.03 * math.cos(7 * math.pi / 32))


def test_a_run_has_a_classifier_that_predicts_and_is_judged(tmp_path: Path) -> None:
    data = file(tmp_path / "a.npz", n=120, classes=3)
    words = (
        "--views.mirror",
        "0",
        "--views.translate",
        "0",
        "--method",
        "fixmatch",
        "--labels",
        "4",
        "--batch-size",
        "28",
        "--ema",
        "0.9",
        "--epochs",
        "40",
    )
    small = tuple(word for pair in zip(SMALL[::2], SMALL[1::2], strict=True) if pair[0] != "--batch-size" for word in pair)
    ok("pretrain", data, *small, *words, "--optimizer.lr", "0.1", "--out", tmp_path / "run")
    said = ok("evaluate", tmp_path / "run", "--protocol", "classifier", "--against", "random", "--accelerator", "cpu")
    assert "classifier" in said
    found = Run.open(tmp_path / "run").classifier()
    x = torch.from_numpy(np.load(data)["x"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        probability = found(x).softmax(1)
    right = (probability.argmax(1).numpy() == np.load(data)["y"]).mean()
    assert right > 0.9
    ok("predict", tmp_path / "run", data, "--out", tmp_path / "p.csv", "--accelerator", "cpu")
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "path,class,probability"
    assert len(lines) == 121
    path, name, share = lines[6].rsplit(",", 2)
    assert path.endswith("[5]")
    assert name == found.classes[int(probability[5].argmax())]
    assert float(share) == pytest.approx(float(probability[5].max()), abs=2e-3)


def test_without_labels_it_says_so(tmp_path: Path) -> None:
    said = mistake(
        "pretrain", file(tmp_path / "a.npz", labels=False), *SMALL, "--method", "fixmatch", "--out", tmp_path / "r"
    )
    assert "needs labels of at least 2 classes" in said
    assert not (tmp_path / "r").exists()
