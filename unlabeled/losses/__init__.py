"""Pure functions of tensors: the losses of contrastive and metric learning, their similarities, and their negatives.

Float tensors of any type go in; everything is computed in float32, or in float64 if an argument is float64. `reduction` is
"mean", "sum" or "none". Vectors are normalised where the paper's similarity is the cosine.

Over several processes the mathematics stays local: anchors are this process's, candidates were gathered with gradient
(`unlabeled.distributed.gather`) and come in as `gathered`, with `offset` for where this process's begin among them. The mean
of the processes' losses, and of their gradients, then is that of one process with all samples. docs/losses.md has the
equations.
"""

from unlabeled.losses.bins import soft_cross_entropy
from unlabeled.losses.clustering import concentration, local_aggregation, proto_nce, sinkhorn, swapped_prediction
from unlabeled.losses.coding import coding_rate, multi_patch
from unlabeled.losses.hard import debiased_nt_xent, mixed_negatives
from unlabeled.losses.infomax import clipped_infomax, local_infomax
from unlabeled.losses.infonce import info_nce, info_nce_bound, n_pair, nce, nt_xent
from unlabeled.losses.labelled import lifted_structure, soft_nearest_neighbor, supervised_contrastive
from unlabeled.losses.metric import batch_triplet, contrastive, margin_triplet, nt_logistic, triplet
from unlabeled.losses.redundancy import barlow_twins, vicreg
from unlabeled.losses.regression import byol, counting, masked_square
from unlabeled.losses.similarity import bilinear, cosine, dot, euclidean, manhattan, separable

__all__ = [
    "barlow_twins",
    "batch_triplet",
    "bilinear",
    "byol",
    "clipped_infomax",
    "coding_rate",
    "concentration",
    "contrastive",
    "cosine",
    "counting",
    "debiased_nt_xent",
    "dot",
    "euclidean",
    "info_nce",
    "info_nce_bound",
    "lifted_structure",
    "local_aggregation",
    "local_infomax",
    "manhattan",
    "margin_triplet",
    "masked_square",
    "mixed_negatives",
    "multi_patch",
    "n_pair",
    "nce",
    "nt_logistic",
    "nt_xent",
    "proto_nce",
    "separable",
    "sinkhorn",
    "soft_cross_entropy",
    "soft_nearest_neighbor",
    "supervised_contrastive",
    "swapped_prediction",
    "triplet",
    "vicreg",
]
