"""One of anything is told in the singular: where messages are made, and in what the verbs say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import unlabeled
from unlabeled.comparing.remarks import off_budget
from unlabeled.data import Source
from unlabeled.data.opening import open_data
from unlabeled.errors import UserError
from unlabeled.evaluating.answer import _some
from unlabeled.parts.clustering import check_clusters, check_prototypes
from unlabeled.probes.base import check_classes
from unlabeled.probes.knn import KNN
from unlabeled.probes.linear import Linear
from unlabeled.registry import Choice
from unlabeled.words import counted


@pytest.mark.parametrize(
    ("number", "nouns", "verb", "form", "said"),
    [
        (1, "images", "", "", "1 image"),
        (0, "images", "are", "", "0 images are"),
        (1, "bad copies", "have", "", "1 bad copy has"),
        (1, "files", "hold", "", "1 file holds"),
        (1.04, "minutes", "", ",.1f", "1 minute"),
        (1.04, "minutes", "", ",.2f", "1.04 minutes"),
        (1.0, "epochs", "", "", "1 epoch"),
        (0.1, "epochs", "", "", "0.1 epochs"),
        (10.0, "epochs", "", "", "10 epochs"),
        (12345, "new classes", "", "", "12,345 new classes"),
    ],
)
def test_one_is_singular(number: float, nouns: str, verb: str, form: str, said: str) -> None:
    assert counted(number, nouns, verb, form=form) == said


def one_picture(path: Path) -> Source:
    np.savez(path / "x.npz", x=np.zeros((1, 8, 8, 3), np.uint8), y=np.zeros(1, np.int64))
    return open_data(path / "x.npz", kind=Choice("image"), seed=None).train


def test_messages_about_one(tmp_path: Path) -> None:
    h, y = torch.eye(2), torch.arange(2)
    unfinished = Linear(max_iter=1, C=1.0).fit(
        torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    )
    assert unfinished.notes_ == ["linear: not converged after max_iter = 1 iteration"]
    assert KNN(k=200).fit(h[:1], y[:1]).notes_ == ["kNN: 1 neighbour votes instead of 200, for 1 label of 1 class"]
    assert _some(["a", "b", "c", "d"]) == "a, b, c and 1 other"
    assert off_budget({"budget": {"minutes": 1.0}}, [{"name": "a", "minutes": 2.0, "epochs": 3}]) == [
        "Not the 1 minute by more than 15%: a 2.0."
    ]
    assert repr(one_picture(tmp_path)).count("1 image,") == 1 and "1 class" in repr(one_picture(tmp_path))
    for refused in (
        lambda: check_clusters(1, 1),
        lambda: check_prototypes(1, 2),
        lambda: check_classes(np.zeros(1), "here"),
    ):
        with pytest.raises(UserError) as error:
            refused()
        assert "1 " in str(error.value) and not re.search(r"\b1 \w+s\b", str(error.value))


def test_no_message_makes_its_own_plural() -> None:
    """An s that is put behind a noun where there are several is a second way of saying it."""
    own = re.compile(r"""(['"])s\1 ?\* ?\(|['"]s['"] if """)
    files = [p for p in Path(unlabeled.__file__).parent.rglob("*.py") if p.name != "words.py"]
    assert [str(p) for p in files if own.search(p.read_text(encoding="utf-8"))] == []
