"""What a device and the bridge of the strategy `partition` have to agree on."""

from __future__ import annotations

import functools

from evitif.model.quantise import TokenQuantiser, row_bytes
from evitif.partition.artifact import Description
from evitif.protocol.frames.packetiser import groups_needed
from evitif.protocol.wire.parameters import StreamParameters
from evitif.settings import CommonSettings

QUANTISATIONS = ('fp16', 'int8', 'int4')       # a transform code would have to be fitted to the features


def feature_quantiser(config: CommonSettings, features: int) -> TokenQuantiser:
    """How features travel; `auto` is int8. Raises ValueError for a transform code, or where a row fits into no datagram."""
    kind = 'int8' if config.quantisation == 'auto' else config.quantisation
    if kind not in QUANTISATIONS:
        raise ValueError(f'quantisation is {kind!r}: expected auto or one of {", ".join(QUANTISATIONS)}, since the strategy is partition')
    groups = groups_needed(features, functools.partial(row_bytes, kind), config.unsealed_datagram_bytes)
    return TokenQuantiser(kind, features, groups)


def device_parameters(partition: Description, quantiser: TokenQuantiser, image_size: tuple[int, int]) -> tuple[StreamParameters, ...]:
    """Those of each device, whose token is the one of its index."""
    devices = len(partition.devices)
    return tuple(StreamParameters(
        model=partition.model, fingerprint=device.fingerprint, cut=0, quantisation=quantiser.kind, image_size=image_size,
        tokens=devices, prefix_tokens=0, grid=(1, devices), channels=partition.features, groups=quantiser.groups,
        row_bytes=quantiser.row_bytes, classes=len(partition.class_names), strategy='partition', device=device.name)
        for device in partition.devices)
