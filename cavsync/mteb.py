"""MtebEncoder, a trained model as MTEB takes it, for its tasks that retrieve audio by video and back (docs/evaluating.md)."""

from cavsync.train.boards.mteb_encoder import MtebEncoder

__all__ = ["MtebEncoder"]
