"""evitif: a large Vision Transformer for a small robot, over a bad radio link."""

__version__ = '0.1.0'
