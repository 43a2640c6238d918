"""What the two sides of the strategy `selection` have to agree on."""

from __future__ import annotations

from dataclasses import replace

from evitif.protocol.parameters import StreamParameters
from evitif.selection import PatchCode, SelectionArtifact


def selection_parameters(artifact: SelectionArtifact, code: PatchCode) -> StreamParameters:
    """The large model, the code of its patches, and the light model that they were calibrated with."""
    return replace(code.stream_parameters(artifact.settings.quantisation), strategy='selection', light=artifact.light_fingerprint)
