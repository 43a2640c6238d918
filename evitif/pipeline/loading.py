"""What every strategy takes from the configuration when it loads its models."""

from __future__ import annotations

from pathlib import Path

from evitif.model.device import Placement, place
from evitif.model.errors import ModelError
from evitif.pipeline.configuration import ModelConfig


def placement_of(config: ModelConfig) -> Placement:
    """Where models run. Raises ModelError where the device is not there."""
    return place(config.device, config.precision, config.allow_device_fallback)


def labels_of(config: ModelConfig, own: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """The name of each class: those of `labels_file`, else `own`. Raises ModelError where they are not as many as the classes."""
    labels, origin = own, 'the model'
    if config.labels_file is not None:
        origin = f'labels file {config.labels_file!r}'
        try:
            labels = tuple(line.strip() for line in Path(config.labels_file).expanduser().read_text().splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f'{origin} cannot be read: {error}') from None
    if len(labels) != classes:
        raise ModelError(f'{origin} has {len(labels)} labels, the model has {classes} classes')
    return labels
