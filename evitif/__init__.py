"""evitif: a large Vision Transformer for a small robot, over a bad radio link.

What an engineer needs to use it without ROS. Each name's docstring has an example.

- `load_model`: load a Vision Transformer and cut it
- `CutModel`: what `load_model` returns
- `encode`: an image to coded tokens
- `decode`: coded tokens to tokens
- `load_recovery`: load a trained PALDN, or take a method that needs no training
- `recover`: estimate the tokens that did not arrive, or leave them out
- `classify`: tokens to classes
- `make_key`: write the key that seals a link
- `run_edge`: run the robot's half
- `run_bridge`: run the off-board half
- `Prediction`: what both halves say about an image

`import evitif` loads none of it: PyTorch is imported when one of the names is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evitif.api import (
        CutModel,
        Prediction,
        classify,
        decode,
        encode,
        load_model,
        load_recovery,
        make_key,
        recover,
        run_bridge,
        run_edge,
    )

__version__ = '0.1.0'
__all__ = ['CutModel', 'Prediction', 'classify', 'decode', 'encode', 'load_model', 'load_recovery', 'make_key', 'recover', 'run_bridge',
           'run_edge']


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(importlib.import_module('evitif.api'), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
