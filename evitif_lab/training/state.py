"""States of trainings on disk, in PyTorch's own format, never with a value that is not finite."""

from __future__ import annotations

from pathlib import Path

import torch

from evitif.files import replacing, require_finite
from evitif.wording import shortened


def write_state(path: Path | str, state: dict) -> None:
    """Write what a training goes on from. Raises files.WriteError; ValueError, naming the value that is not finite."""
    require_finite(state, f'{path} is not written')
    with replacing(path) as new, open(new, 'wb') as file:
        torch.save(state, file)


def read_state(path: Path | str, advice: str = 'remove it to begin anew') -> dict:
    """Read what `write_state` wrote. Raises ValueError, naming the file and saying `advice`, for one that is damaged."""
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f'it holds a {type(state).__name__}, not the state of a training')
        require_finite(state, 'of no use')
    except MemoryError:
        raise
    except Exception as error:      # a torn file makes the readers raise anything from EOFError to UnpicklingError
        raise ValueError(f'{path} is damaged and cannot be gone on with ({shortened(error, 120)}); {advice}') from None
    return state
