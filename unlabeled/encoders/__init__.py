"""Raw input to representation: (B, ...) -> (B, D)."""

from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import build_encoder
from unlabeled.encoders.lab import Lab

__all__ = ["Encoder", "Lab", "build_encoder"]
