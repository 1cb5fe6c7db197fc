"""Pure functions of tensors, in float32 whatever comes in. They normalise where the paper's similarity is the cosine."""

from unlabeled.losses.contrastive import info_nce, nt_xent
from unlabeled.losses.regression import byol

__all__ = ["byol", "info_nce", "nt_xent"]
