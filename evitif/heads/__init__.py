"""Heads: what follows the backbone's blocks beside, or in the place of, its own classifier. Each is an artifact of its own.

`features.py` is what a head reads, `head.py` what every head is, `results.py` what one says of a frame, `artifact.py` how one lies on disk;
`classify.py` and `embed.py` are heads; `chosen.py` is what a parameter names.
"""

from evitif.heads.artifact import HEADS, HeadDescription, load_head, read_head, register, save_head
from evitif.heads.chosen import chosen_heads, load_heads, view_for
from evitif.heads.features import Features
from evitif.heads.head import Asked, Head, Reading

__all__ = ['HEADS', 'Asked', 'Features', 'Head', 'HeadDescription', 'Reading', 'chosen_heads', 'load_head', 'load_heads', 'read_head',
           'register', 'save_head', 'view_for']
