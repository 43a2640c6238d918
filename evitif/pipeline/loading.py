"""What every strategy reads from its settings when it loads its models."""

from __future__ import annotations

import codecs
from pathlib import Path

from evitif.model.device import Placement, place
from evitif.model.errors import ModelError
from evitif.model.folder import artifact_beside
from evitif.protocol.wire.datagram import SEAL_BYTES
from evitif.selection import EntropyPatchCode
from evitif.selection.patch_code import ENTROPY_KIND
from evitif.settings import AUTO, CommonSettings, LinkSettings
from evitif.vocabulary import Quantisation


def datagram_room(config: CommonSettings) -> int:
    """Bytes of a datagram that the seal, if there is one, leaves to the rest."""
    return config.max_datagram_bytes - (SEAL_BYTES if isinstance(config, LinkSettings) and config.key_file else 0)


def entropy_patch_code(config: CommonSettings, model: str, fingerprint: str) -> EntropyPatchCode | None:
    """The entropy code of the large model's patches, if they are to be coded: `quantisation` is coded, or auto and there is one.

    Raises ArtifactError where it is missing or was made for another model.
    """
    if config.quantisation == Quantisation.CODED or config.quantisation == AUTO and artifact_beside(model, 0, ENTROPY_KIND) is not None:
        return EntropyPatchCode.beside(model, fingerprint)
    return None


def placement_of(config: CommonSettings) -> Placement:
    """Where models run. Raises ModelError where the device is not there."""
    return place(config.device, config.precision, config.allow_device_fallback)


def labels_of(config: CommonSettings, own: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """The name of each class: those of `labels_file`, else `own`. Raises ModelError if there are more or fewer than classes."""
    labels, origin = own, 'the model'
    if config.labels_file is not None:
        origin = f'labels file {config.labels_file!r}'
        try:
            text = _text_of(Path(config.labels_file).expanduser().read_bytes())
        except UnicodeDecodeError as error:
            raise ModelError(f'{origin} is not in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8') from None
        except OSError as error:
            raise ModelError(f'{origin} cannot be read: {error}') from None
        if '\0' in text:
            raise ModelError(f'{origin} is not in UTF-8 (it holds a zero): save it as UTF-8')
        labels = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(labels) != classes:
        raise ModelError(f'{origin} has {len(labels)} labels, the model has {classes} classes')
    return labels


def _text_of(content: bytes) -> str:
    """UTF-8, or UTF-16 that says so; editors on Windows put a byte order mark at the beginning of either."""
    return content.decode('utf-16' if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else 'utf-8-sig')
