"""KNN against scikit-learn, against the formula in NumPy loops, and in its corner cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unlabeled.errors import UserError
from unlabeled.probes.knn import GROUP, KNN, _key, _largest, _unkey


def clusters(n: int, d: int = 12, classes: int = 5, noise: float = 2.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping Gaussian clusters: (n, d) float32 and labels (n,) out of {3, 5, 7, ...}."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    return centres[label] + noise * torch.randn(n, d, generator=g), 3 + 2 * label


def loop_prediction(h: np.ndarray, y: np.ndarray, query: np.ndarray, k: int, temperature: float) -> int:
    """Wu et al. 2018, section 3.4: w_c = sum over the k nearest of exp(s_i / T) [c_i = c]; the class with the largest."""
    similar = [float(row @ query / (np.linalg.norm(row) * np.linalg.norm(query))) for row in h]
    votes: dict[int, float] = {}
    for i in sorted(range(len(h)), key=lambda i: -similar[i])[:k]:
        votes[int(y[i])] = votes.get(int(y[i]), 0.0) + math.exp(similar[i] / temperature)
    return max(votes, key=lambda c: votes[c])


@pytest.mark.parametrize(("n", "k", "temperature"), [(1200, 200, 0.1), (700, 1, 0.1), (150, 20, 0.07), (700, 50, 10.0)])
def test_predicts_as_scikit_learn(n: int, k: int, temperature: float) -> None:
    h, y = clusters(n)
    query, _ = clusters(300, seed=1)
    peer = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
    expected = peer.fit(h.double().numpy(), y.numpy()).predict(query.double().numpy())
    assert KNN(k=k, temperature=temperature).fit(h, y).predict(query).tolist() == expected.tolist()


def test_finds_the_neighbours_that_scikit_learn_finds() -> None:
    h, y = clusters(2000)
    query, _ = clusters(50, seed=1)
    peer = KNeighborsClassifier(30, metric="cosine").fit(h.double().numpy(), y.numpy())
    cosine, position = KNN(k=30).fit(h, y).neighbours(query, bank_tile=1500)  # 1500 > 2 * 30 * GROUP: the grouped way
    distance, expected = peer.kneighbors(query.double().numpy())
    assert position.tolist() == expected.tolist()
    torch.testing.assert_close(cosine, torch.from_numpy(1 - distance).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [0.03, 0.1, 1.0])
def test_predicts_as_the_formula(temperature: float) -> None:
    h, y = clusters(90, d=4)
    query, _ = clusters(40, d=4, seed=1)
    expected = [loop_prediction(h.double().numpy(), y.numpy(), q, 15, temperature) for q in query.double().numpy()]
    assert KNN(k=15, temperature=temperature).fit(h, y).predict(query).tolist() == expected


@pytest.mark.parametrize(("query_tile", "bank_tile"), [(1, 10000), (7, 13), (10000, 200), (64, 3200), (10000, 10000)])
def test_tiles_do_not_matter(query_tile: int, bank_tile: int) -> None:
    h, y = clusters(8000)
    query, _ = clusters(30, seed=1)
    knn = KNN(k=100).fit(h, y)
    assert torch.equal(knn.predict(query), knn.predict(query, query_tile=query_tile, bank_tile=bank_tile))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40 * GROUP), k=st.integers(1, 30), levels=st.integers(1, 50), seed=st.integers(0, 10**6))
def test_the_largest_of_many_ties_are_those_of_a_stable_sort(n: int, k: int, levels: int, seed: int) -> None:
    value = torch.randint(-levels, levels + 1, (3, n), generator=torch.Generator().manual_seed(seed)) / levels
    found, position = _unkey(_largest(value, k, 1000))
    expected = value.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found, expected.values[:, :k])
    assert torch.equal(position - 1000, expected.indices[:, :k])


def test_keys_order_by_value_then_position() -> None:
    value = torch.tensor([-torch.inf, -1.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 1.0])
    back, position = _unkey(_key(value, torch.arange(8)))
    assert torch.equal(back, value)
    assert position.tolist() == list(range(8))
    key = _key(value, torch.zeros(8, dtype=torch.int64))
    assert key[3] == key[4], "minus zero is not below zero"
    assert (key.diff()[[0, 1, 2, 4, 5, 6]] > 0).all()
    first, second = _key(torch.ones(2), torch.tensor([4, 5]))
    assert first > second


def test_of_equally_similar_samples_the_earlier_is_the_nearer() -> None:
    h = torch.tensor([[1.0, 0], [0, 1], [1, 0], [2, 0]] + 5 * [[0, 1]])
    y = torch.tensor([4, 4, 2, 3, 2, 3, 2, 3, 4])
    query = torch.tensor([[3.0, 0]])
    assert KNN(k=1).fit(h, y).predict(query).tolist() == [4]
    assert KNN(k=2).fit(h, y).neighbours(query)[1].tolist() == [[0, 2]]
    assert KNN(k=3).fit(h, y).predict(query).tolist() == [2], "three equal votes: the smallest class"


def test_identical_points_vote_by_majority() -> None:
    h = torch.ones(5000, 8)
    y = torch.arange(5000) % 3 // 2  # class 0 twice as often
    assert KNN(k=100).fit(h, y).predict(torch.ones(4, 8)).tolist() == [0, 0, 0, 0]


def test_with_few_samples_as_many_vote_as_a_class_has_on_average() -> None:
    h, y = clusters(34)
    query, _ = clusters(200, seed=1)
    peer = KNeighborsClassifier(34 // 5, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1))
    expected = peer.fit(h.double().numpy(), y.numpy()).predict(query.double().numpy())
    assert KNN(k=200).fit(h, y).predict(query).tolist() == expected.tolist()
    assert KNN(k=200).fit(torch.eye(5), torch.arange(5)).predict(torch.eye(5)).tolist() == [0, 1, 2, 3, 4]


def test_one_class_one_sample_zero_vectors_no_query() -> None:
    knn = KNN().fit(torch.randn(1, 3), torch.tensor([7]))
    assert knn.predict(torch.cat([torch.randn(2, 3), torch.zeros(1, 3)])).tolist() == [7, 7, 7]
    assert knn.predict(torch.empty(0, 3)).shape == (0,)


def test_length_does_not_matter_and_half_precision_is_accepted() -> None:
    h, y = clusters(100)
    query, _ = clusters(50, seed=1)
    expected = KNN(k=9).fit(h, y).predict(query)
    assert torch.equal(KNN(k=9).fit(h * torch.rand(100, 1).add(0.5) * 8, y).predict(query / 3), expected)
    assert KNN(k=9).fit(h.bfloat16(), y).predict(query.bfloat16()).dtype == torch.int64


def test_score_is_the_share_of_correct_predictions() -> None:
    knn = KNN().fit(torch.eye(3), torch.tensor([0, 1, 2]))
    assert knn.score(torch.eye(3), torch.tensor([0, 1, 1])) == {"top1": pytest.approx(2 / 3)}


@pytest.mark.parametrize("options", [{"k": 0}, {"temperature": 0.0}])
def test_bad_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="k must be at least 1 and temperature above 0"):
        KNN(**options).fit(torch.randn(3, 2), torch.zeros(3, dtype=torch.int64))  # type: ignore[arg-type]


def test_bad_features_are_refused() -> None:
    y = torch.zeros(3, dtype=torch.int64)
    for h, words in [(torch.randn(3), "must be"), (torch.full((3, 2), torch.nan), "NaN"), (torch.randn(4, 2), "must be")]:
        with pytest.raises(ValueError, match=words):
            KNN().fit(h, y)
    with pytest.raises(ValueError, match="no labelled sample"):
        KNN().fit(torch.empty(0, 2), y[:0])


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation gives."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return out


@pytest.mark.parametrize("bank_tile", [5000, 10000])
def test_no_tensor_is_larger_than_two_tiles(bank_tile: int) -> None:
    knn = KNN().fit(torch.randn(20000, 4), torch.arange(20000) % 10)
    with Largest() as largest:
        knn.predict(torch.randn(2000, 4), query_tile=100, bank_tile=bank_tile)
    assert 0 < largest.bytes <= 2 * 100 * bank_tile * 4
