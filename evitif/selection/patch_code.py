"""Patches of an image on the wire, as rows of fixed size or entropy-coded.

Both codes are those of tokens (`evitif.model.transform_code`, `entropy_code`) where a token is the pixels of a patch, preprocessed as the
large model takes them, and the metric is what its answer depends on. They lie beside the large model (`pixels-cut0.json` and
`pixels-entropy-cut0.json`, by `evitif train code --pixels`); the robot needs these files of it and none of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from evitif.identity import join_parts, parts
from evitif.model.code_artifact import load_code
from evitif.model.entropy_artifact import load_entropy_code, regridded
from evitif.model.entropy_code import EntropyCode
from evitif.model.errors import ArtifactError
from evitif.model.field_of_view import fit_of
from evitif.model.fingerprint import preprocessing_digest, same_preprocessing
from evitif.model.folder import artifact_beside
from evitif.model.preprocess import Preprocessor, seen_as, tuples_of
from evitif.model.quantise import TokenQuantiser
from evitif.model.resize import require_fitting_size
from evitif.model.transform_code import RATES, TransformCode
from evitif.protocol.frames.packetiser import MAX_DATAGRAM_BYTES, row_capacity
from evitif.protocol.wire.datagram import UNIT_INDEX
from evitif.protocol.wire.parameters import StreamParameters
from evitif.selection.large import PatchModel, patches_of
from evitif.vocabulary import Quantisation, Strategy

KIND, ENTROPY_KIND = 'pixels', 'pixels-entropy'


@dataclass(frozen=True, eq=False)
class Pixels:
    """What a robot has to know of the large model that its patches are for."""

    model: str                          # the large model's name
    fingerprint: str                    # of its weights at cut 0
    image_size: tuple[int, int]         # height and width of its input
    grid: tuple[int, int]               # rows and columns of patches
    patch_size: tuple[int, int]
    class_names: tuple[str, ...]
    labels: tuple[str, ...]
    data_config: dict                   # of its preprocessing (`evitif.model.preprocess`)

    @classmethod
    def of(cls, description: dict, path: Path | str) -> Pixels:
        """What the description of a code says. Raises ArtifactError where it lacks something, or contradicts itself."""
        try:
            found = cls(str(description['model']), str(description['fingerprint']), tuple(description['image_size']),
                        tuple(description['grid']), tuple(description['patch_size']), tuple(description['class_names']),
                        tuple(description['labels']), tuples_of(description['data_config']))
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f'patch code {path}: its description lacks or has the wrong form of {error}') from None
        if not same_preprocessing(found.fingerprint, found.data_config):
            raise ArtifactError(f'patch code {path}: its data_config is not the preprocessing of the model that it was made for')
        return found

    @staticmethod
    def describe(large: PatchModel, class_names: tuple[str, ...], labels: tuple[str, ...], data_config: dict) -> dict:
        """What `load` asks of a description beside what every code has."""
        return {'image_size': list(large.split.image_size), 'grid': list(large.grid), 'patch_size': list(large.patch_size),
                'class_names': list(class_names), 'labels': list(labels), 'data_config': data_config}

    @property
    def patches(self) -> int:
        """The number of patches of an image."""
        return self.grid[0] * self.grid[1]

    def seeing(self, size: tuple[int, int] | None, fit: str) -> Pixels:
        """The same of the large model with another image size (height, width) or fit. Raises ModelError for a size that does not fit."""
        config = seen_as(self.data_config, size, fit)
        if config == self.data_config:
            return self
        size = config['input_size'][1:]
        require_fitting_size(self.model, self.patch_size, size)
        about = parts(self.fingerprint)
        fingerprint = join_parts(about['weights'], about['architecture'], preprocessing_digest(config), 0)
        grid = size[0] // self.patch_size[0], size[1] // self.patch_size[1]
        return replace(self, fingerprint=fingerprint, image_size=size, grid=grid, data_config=config)

    def preprocessor(self) -> Preprocessor:
        """The large model's preprocessing."""
        return Preprocessor(self.data_config)

    def patches_in(self, image: torch.Tensor) -> np.ndarray:
        """A preprocessed image [1, C, H, W] to its patches, float32 [patches, C * h * w]."""
        return patches_of(image.float().cpu(), self.patch_size).flatten(0, 1).numpy()

    def parameters_of(self, quantisation: str, row_bytes: int, channels: int, **more: str) -> StreamParameters:
        """What edge and bridge have to agree on: units are patches, and there are no prefix tokens on the wire."""
        return StreamParameters(
            model=self.model, fingerprint=self.fingerprint, cut=0, quantisation=Quantisation(quantisation), image_size=self.image_size,
            tokens=self.patches, prefix_tokens=0, grid=self.grid, channels=channels, groups=1, row_bytes=row_bytes,
            classes=len(self.class_names), strategy=Strategy.SELECTION, fit=fit_of(self.data_config), **more)


@dataclass(frozen=True, eq=False)
class PatchCode:
    """The rows of one large model's patches."""

    code: TransformCode
    pixels: Pixels
    default: str                        # the rate to send patches at unless one says otherwise
    figures: dict                       # measured when the code was fitted

    @classmethod
    def load(cls, path: Path | str, fingerprint: str | None = None) -> PatchCode:
        """The code of the description `path`. Raises ArtifactError where it cannot be read or, with a `fingerprint`, was made
        for another large model."""
        code, description = load_code(path, fingerprint, KIND)
        return cls(code, Pixels.of(description, path), description['default'], dict(description.get('figures', {})))

    @classmethod
    def beside(cls, model: str, fingerprint: str | None = None) -> PatchCode:
        """The code that lies beside the large model `model`. Raises ArtifactError where there is none, or see `load`."""
        return cls.load(_found(model, KIND), fingerprint)

    def seeing(self, size: tuple[int, int] | None, fit: str) -> PatchCode:
        """As `Pixels.seeing`: the code serves other sizes too."""
        pixels = self.pixels.seeing(size, fit)
        return replace(self, code=self.code.regridded(self.pixels.grid, pixels.grid), pixels=pixels)

    def stream_parameters(self, quantisation: str, light_fingerprint: str = '', entropy_code: str = '') -> StreamParameters:
        """What edge and bridge have to agree on, with the light model and, where patches are entropy-coded, the digest of that code."""
        return self.pixels.parameters_of(quantisation, self._quantiser(quantisation).row_bytes, self.code.channels,
                                         code=self.code.digest if quantisation in RATES else '', light=light_fingerprint,
                                         entropy_code=entropy_code)

    def rows(self, image: torch.Tensor, quantisation: str) -> np.ndarray:
        """A preprocessed image [1, C, H, W] to rows uint8 [patches, row_bytes], of which the chosen ones are sent."""
        return self.rows_of(self.pixels.patches_in(image), quantisation)

    def rows_of(self, patches: np.ndarray, quantisation: str) -> np.ndarray:
        """As `rows`, of patches float32 [patches, C * h * w]."""
        return self._quantiser(quantisation).quantise(patches)

    def patches_from(self, rows: np.ndarray, quantisation: str) -> torch.Tensor:
        """Rows uint8 [B * patches, row_bytes], anything at places that did not arrive, to patches float32 [B, P, C * h * w]."""
        values = self._quantiser(quantisation).dequantise(rows)
        return torch.from_numpy(values).view(-1, self.pixels.patches, self.code.channels)

    def _quantiser(self, quantisation: str) -> TokenQuantiser:
        quantiser = TokenQuantiser(quantisation, self.code.channels, code=self.code if quantisation in RATES else None)
        room = row_capacity(MAX_DATAGRAM_BYTES) - UNIT_INDEX.itemsize
        if quantiser.row_bytes > room:
            raise ValueError(f'a patch takes {quantiser.row_bytes} bytes as {quantisation}: expected at most {room}, so that it fits '
                             f'into a datagram (choose one of {", ".join(RATES)})')
        return quantiser


@dataclass(frozen=True, eq=False)
class EntropyPatchCode:
    """The entropy code of one large model's patches: in reference to what the bridge has, a patch that did not move takes few bits."""

    code: EntropyCode
    pixels: Pixels
    description: dict                   # as it was written, with what steps and lost patches cost

    @classmethod
    def load(cls, path: Path | str, fingerprint: str | None = None) -> EntropyPatchCode:
        """As `PatchCode.load`."""
        code, description = load_entropy_code(path, fingerprint, ENTROPY_KIND)
        return cls(code, Pixels.of(description, path), description)

    @classmethod
    def beside(cls, model: str, fingerprint: str | None = None) -> EntropyPatchCode:
        """As `PatchCode.beside`."""
        return cls.load(_found(model, ENTROPY_KIND), fingerprint)

    def seeing(self, size: tuple[int, int] | None, fit: str) -> EntropyPatchCode:
        """As `PatchCode.seeing`."""
        pixels = self.pixels.seeing(size, fit)
        return replace(self, code=regridded(self.code, pixels.grid), pixels=pixels)

    def stream_parameters(self) -> StreamParameters:
        """What edge and bridge have to agree on. No rows travel, so that their size says nothing."""
        return self.pixels.parameters_of(Quantisation.INT8, 1, self.code.mean.shape[1], entropy_code=self.code.agreement)


def _found(model: str, kind: str) -> Path:
    path = artifact_beside(model, 0, kind)
    if path is None:
        raise ArtifactError(f'{model} has no code for its patches ({kind}-cut0.json): fit one with '
                            f'`evitif train code --pixels --model {model} --data FOLDER`')
    return path
