"""What the two sides of the strategy `selection` have to agree on."""

from __future__ import annotations

from dataclasses import replace

from evitif.protocol.wire.parameters import StreamParameters
from evitif.selection import PatchCode, Selection
from evitif.vocabulary import Strategy


def selection_parameters(settings: Selection, light_fingerprint: str, code: PatchCode) -> StreamParameters:
    """The large model, the code of its patches, and the light model that they were calibrated with."""
    return replace(code.stream_parameters(settings.quantisation), strategy=Strategy.SELECTION, light=light_fingerprint)
