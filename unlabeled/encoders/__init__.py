"""Raw input to representation: (B, ...) -> (B, D)."""

from unlabeled.encoders.image import Encoder, build_encoder

__all__ = ["Encoder", "build_encoder"]
