"""Sources of raw samples: folders, zips, Parquet, arrays, data sets, names. They index and decode; they never augment."""

from unlabeled.data.opening import Data, open_data
from unlabeled.data.reader import Skipped
from unlabeled.data.source import Source, left_out, told
from unlabeled.data.split import balanced_draw, held_out_classes, hold_out

__all__ = [
    "Data",
    "Skipped",
    "Source",
    "balanced_draw",
    "held_out_classes",
    "hold_out",
    "left_out",
    "open_data",
    "told",
]
