"""Raw input to representation: (B, ...) -> (B, D)."""

from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import build_encoder
from unlabeled.encoders.lab import Lab, Lightness

__all__ = ["Encoder", "Lab", "Lightness", "build_encoder"]
