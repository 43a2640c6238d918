"""What a device and the bridge of the strategy `partition` have to agree on."""

from __future__ import annotations

import functools

from evitif.model.field_of_view import fit_of
from evitif.model.quantise import TokenQuantiser, row_bytes
from evitif.partition.artifact import Description
from evitif.pipeline.loading import datagram_room
from evitif.protocol.frames.packetiser import groups_needed
from evitif.protocol.wire.parameters import StreamParameters
from evitif.settings import AUTO, UNCODED, CommonSettings
from evitif.vocabulary import Quantisation, Strategy

OF_FEATURES = (Quantisation.FP16, Quantisation.INT8, Quantisation.INT4)     # a transform code would have to be fitted to the features


def feature_quantiser(config: CommonSettings, features: int) -> TokenQuantiser:
    """how features travel; `auto` and `rows` are int8. Raises ValueError for a transform code, or if no row fits into a datagram."""
    kind = Quantisation.INT8 if config.quantisation in (AUTO, UNCODED) else config.quantisation
    if kind not in OF_FEATURES:
        raise ValueError(f'quantisation is {kind!r}: expected auto or one of {", ".join(OF_FEATURES)}, since the strategy is partition')
    groups = groups_needed(features, functools.partial(row_bytes, kind), datagram_room(config))
    return TokenQuantiser(kind, features, groups)


def device_parameters(partition: Description, quantiser: TokenQuantiser, image_size: tuple[int, int]) -> tuple[StreamParameters, ...]:
    """The parameters of each device's stream; its token has the device's index."""
    devices = len(partition.devices)
    return tuple(StreamParameters(
        model=partition.model, fingerprint=device.fingerprint, cut=0, quantisation=Quantisation(quantiser.kind), image_size=image_size,
        tokens=devices, prefix_tokens=0, grid=(1, devices), channels=partition.features, groups=quantiser.groups,
        row_bytes=quantiser.row_bytes, classes=len(partition.class_names), strategy=Strategy.PARTITION, device=device.name,
        fit=fit_of(partition.data_config))
        for device in partition.devices)
