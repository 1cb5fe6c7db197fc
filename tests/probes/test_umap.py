"""UMAP: it says what is missing; where it is installed, groups stay groups."""

from __future__ import annotations

import sys

import pytest

from probes.test_tsne import groups
from unlabeled.errors import UserError
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.spelling import parse_protocol
from unlabeled.probes.umap import UMAP


def test_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as where it is not installed
    said = r"needs the package umap-learn, which is not installed: pip install 'unlabeled\[umap\]', or use --protocol tsne"
    for ask in (UMAP().score, lambda h, _: UMAP().predict(h)):
        with pytest.raises(UserError, match=said):
            ask(*groups())
    with pytest.raises(UserError, match=said):
        evaluate_features(*groups(), *groups(), protocol=parse_protocol("umap:neighbours=5").choice)


@pytest.mark.filterwarnings("ignore")
def test_groups_stay_groups() -> None:
    pytest.importorskip("umap")
    found = UMAP(neighbours=5).fit(*groups()).score(*groups())
    assert found["knn_map"] == 1
    assert found["trustworthiness"] > 0.75
    again = UMAP(neighbours=5).fit(*groups())
    assert again.score(*groups()) == found
    assert (again.predict(groups()[0]).numpy() == again.map_.xy).all()
