"""What every method calls g: from the representation to the embedding that it compares."""

from __future__ import annotations

import pytest
import torch

from tests.contract.kit import NAMES, make

WITHOUT = {"random", "supervised", "deepcluster", "rotation", "mae"}
"""They compare no embeddings."""


@pytest.mark.parametrize("name", NAMES)
def test_g_makes_an_embedding_of_a_representation(name: str) -> None:
    method = make(name).eval()
    assert (method.g is None) == (name in WITHOUT)
    if method.g is not None:
        z = method.g(torch.randn(5, method.encoder.dim))
        assert z.shape[0] == 5
        assert z.isfinite().all()
