"""Build a timm Vision Transformer, cut it into head and tail, quantise its tokens, fingerprint it."""

from evitif.model.errors import ModelError

__all__ = ['ModelError']
