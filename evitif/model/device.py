"""Device and precision: chosen by name, never silently."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from evitif.model.errors import ModelError
from evitif.wording import shortened

PRECISIONS = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


@dataclass(frozen=True)
class Placement:
    """Where and in which precision a model runs."""

    device: torch.device
    precision: str
    sentence: str            # for the log: what is used, and the reason if it is not what was asked for
    fallback: bool = False   # the CPU computes, because the device that was asked for is not available

    @property
    def dtype(self) -> torch.dtype:
        """PyTorch's type of `precision`."""
        return PRECISIONS[self.precision]


def place(device: str = 'cpu', precision: str = 'fp32', allow_fallback: bool = False) -> Placement:
    """Check that `device` (cpu, cuda, cuda:1, mps, …) is there and can compute in `precision`.

    Raises ModelError otherwise, unless `allow_fallback`: then the CPU in fp32 is used, which `fallback` and the sentence say.
    """
    if precision not in PRECISIONS:
        raise ModelError(f'precision {precision!r} is unknown (expected {", ".join(PRECISIONS)})')
    reason = _unavailable(device, precision)
    if reason is None:
        return Placement(torch.device(device), precision, f'device {device} ({_describe(device)}), {precision}')
    if not allow_fallback:
        raise ModelError(f'{reason}; expected one that is here: {", ".join(_available())}')
    return Placement(torch.device('cpu'), 'fp32', f'device cpu ({_describe("cpu")}), fp32, because {reason}', fallback=True)


def _unavailable(device: str, precision: str) -> str | None:
    try:
        kind = torch.device(device)
    except RuntimeError:
        return f'device {device!r} is unknown to PyTorch (expected cpu, cuda, cuda:0, mps, …)'
    try:
        probe = torch.ones(2, 2, dtype=PRECISIONS[precision], device=kind)
        answer = torch.nn.functional.layer_norm(probe @ probe, (2,)).cpu()      # `meta` computes no values
        return None if bool((answer == 0).all()) else f'device {device!r} computes wrongly in {precision}'
    except Exception as error:      # a back end that is not installed raises what it likes: ModuleNotFoundError for hpu, …
        return f'device {device!r} cannot be used in {precision}: {shortened(error, 160)}'


def _available() -> list[str]:
    """The devices that PyTorch sees here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True) if hasattr(torch, 'accelerator') else None
    if accelerator is None:
        return ['cpu'] + ([f'cuda:{index}' for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else [])
    return ['cpu', *(f'{accelerator.type}:{index}' for index in range(torch.accelerator.device_count()))]


def _describe(device: str) -> str:
    kind = torch.device(device)
    if kind.type == 'cuda':
        return torch.cuda.get_device_name(kind)
    return _cpu_name() if kind.type == 'cpu' else kind.type


def _cpu_name() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.machine()
