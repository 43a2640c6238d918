"""What an entropy code's steps and what lost patches cost, as measured when it was fitted; and the code that lies beside a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evitif.model.entropy_artifact import KIND, load_entropy_code
from evitif.model.entropy_code import EntropyCode
from evitif.model.errors import ArtifactError
from evitif.model.folder import artifact_beside, artifact_folders, artifact_path, find_model_folder
from evitif.model.model_identity import Identity
from evitif.settings import AUTO
from evitif.typed_json import typed
from evitif.vocabulary import Quantisation

FIGURES = 'coding_cost'         # what the table is called among the figures of an entropy code
# Where it was not measured: without a memory, so many times as large a share of the energy has to be lost for the same cost.
REMEMBERED_COSTS = 2.0


@dataclass(frozen=True)
class CodedTable:
    """What was measured with the recovery that is used. Costs are of the answer, 0 to 1."""

    coding: dict[str, float]               # by step, nothing lost
    bytes: dict[str, float]                # by step, mean of the patches' bytes
    lost: tuple[tuple[float, float], ...]  # share of the patches lost, 0 to 1 ascending, and what that costs without a memory
    # Share of the patches' energy by which those that were lost differ from what is remembered of them, ascending, and what that costs.
    remembered: tuple[tuple[float, float], ...] = ()

    @property
    def with_memory(self) -> tuple[tuple[float, float], ...]:
        """`remembered`, or in tables without it what follows from `lost`."""
        return self.remembered or tuple((share / REMEMBERED_COSTS, cost) for share, cost in self.lost)

    @classmethod
    def of(cls, description: dict) -> CodedTable:
        """The table of a code's description. Raises ArtifactError where it has none, or something else there."""
        figures = description.get('figures', {})
        try:
            table = typed(cls, figures[FIGURES], FIGURES)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f'the figures of an entropy code are not as `evitif train code` writes them: expected {FIGURES} with a '
                                f'number for each step as coding and as bytes, and pairs of numbers as lost: {error}') from None
        steps = table.coding.keys()
        if not steps or steps != table.bytes.keys() or not table.lost or not all(step.isdigit() for step in steps):
            raise ArtifactError(f'{FIGURES} of an entropy code has no steps, or not the same ones as coding and bytes')
        return table


@dataclass(frozen=True, eq=False)
class FittedCode:
    """An entropy code, and what was measured of it."""

    code: EntropyCode
    table: CodedTable


def fitted_code(model: str, cut: int, identity: Identity | str, quantisation: str, within: str | None = None) -> FittedCode | None:
    """The entropy code beside `model`, or in the folder `within`, for this cut, if `quantisation` is coded, or auto and there is one for
    these weights.

    Raises ArtifactError if it was asked for by name and there is none, or the one in a model folder does not fit.
    """
    if quantisation not in (AUTO, Quantisation.CODED):
        return None
    path = artifact_beside(model, cut, KIND, identity.suffix if isinstance(identity, Identity) else '', within)
    if path is None:
        if quantisation == AUTO:
            return None
        folders = artifact_folders(model) if within is None else [Path(within)]
        wanted = artifact_path(folders[0] if folders else Path('artifacts') / model, cut, KIND)
        raise ArtifactError(f'quantisation coded needs an entropy code for {model} at cut {cut}, and there is no {wanted}: fit one with '
                            '`evitif train code`, or take fp16, int8 or int4')
    try:
        code, description = load_entropy_code(path, identity)
        return FittedCode(code, CodedTable.of(description))
    except ArtifactError:
        if quantisation != AUTO or within is not None or find_model_folder(model) is not None:
            raise
        return None         # other weights of an architecture that a code ships for
