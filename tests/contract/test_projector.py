"""What every method calls g: from the representation to the embedding that it compares."""

from __future__ import annotations

from unlabeled.testing import Trial

from .suite import TRIALS, each

WITHOUT = {
    "ae", "amdim", "colorization", "context-encoder", "cpc", "cpc-v1", "cpc-v2", "dae", "data-init", "deepcluster",
    "exemplar", "fixmatch", "ijepa", "jigsaw", "mae", "multi-task", "random", "relative-patch", "rotation", "simmim",
    "split-brain", "super-resolution", "supervised",
}  # fmt: skip
"""They compare no embeddings."""


@each(*TRIALS)
def test_who_has_one(trial: Trial) -> None:
    assert (trial.plain.g is None) == (trial.name in WITHOUT)
