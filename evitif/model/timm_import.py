"""The one place where timm is imported.

timm imports torchvision. A torchvision whose compiled operators do not load beside the installed PyTorch (a CUDA build
beside a CPU PyTorch, say) fails at import because it registers meta kernels for operators that are not there.
evitif uses none of those operators, so declaring the missing ones makes the import work.
"""

from __future__ import annotations

import torch

_OPERATORS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}
_library: torch.library.Library | None = None  # kept alive: the declarations last as long as it does


def repair_torchvision() -> None:
    """Declare torchvision's operators where, and only where, the real ones are absent."""
    global _library
    if _library is not None:
        return
    try:
        import torchvision  # noqa: F401
        return
    except RuntimeError as error:
        if 'torchvision::' not in str(error):
            raise
    _library = torch.library.Library('torchvision', 'DEF')
    for schema in _OPERATORS.values():
        _library.define(schema)


repair_torchvision()

import timm  # noqa: E402
import timm.data  # noqa: E402

__all__ = ['repair_torchvision', 'timm']
