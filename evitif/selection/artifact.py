"""What `evitif calibrate` chose for a light and a large model: `selection.json` in the light model's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from evitif.files import write_json
from evitif.model.artifact import part_of, read_artifact, require_fingerprint
from evitif.model.errors import ArtifactError
from evitif.model.transform_code import RATES
from evitif.selection import gate, scores
from evitif.selection.choice import require_delta

FILE = 'selection.json'
FORMAT, KIND, TITLE = 1, 'selection', 'selection artifact'


@dataclass(frozen=True)
class Selection:
    """The settings of strategy selection. Raises ValueError, naming the value and what was expected, for one out of range."""

    classes: int
    delta: float                          # share of the scores that the sent patches have, 0 to 1
    eta: float                            # uncertainty below which the robot answers alone; 0: never
    score_rule: str = 'last'              # one of scores.RULES
    gate_rule: str = 'min-entropy'        # one of gate.RULES
    temperature: float = 1.0              # of the light model's probabilities
    prior_weight: float = 0.0             # of the light model's answer, multiplied into the large one's; 0: not at all
    quantisation: str = 'klt1'            # of the patches on the wire, one of RATES

    def __post_init__(self):
        scores.blocks_of(self.score_rule, 1)
        require_delta(self.delta)
        gate.require_eta(self.eta, self.classes, self.gate_rule)
        if not 0 < self.temperature < 100:
            raise ValueError(f'temperature is {self.temperature:g}: expected more than 0 and less than 100')
        if not 0 <= self.prior_weight <= 10:
            raise ValueError(f'prior_weight is {self.prior_weight:g}: expected 0 to 10')
        if self.quantisation not in RATES:
            raise ValueError(f'quantisation of patches is {self.quantisation!r}: expected one of {", ".join(RATES)}')

    def changed(self, delta: float | None = None, eta: float | None = None) -> Selection:
        """The same with a user's own δ or η. Raises ValueError for one out of range."""
        given = {name: value for name, value in (('delta', delta), ('eta', eta)) if value is not None}
        return replace(self, **given)


@dataclass(frozen=True)
class _Model:
    """One of the two models that the settings were calibrated for."""

    model: str
    fingerprint: str


@dataclass(frozen=True)
class SelectionArtifact:
    """The settings, and the two models that they were calibrated for."""

    settings: Selection
    light: str
    light_fingerprint: str                # of its weights, without a cut
    large: str                            # the model folder or timm name given to `evitif calibrate`
    large_fingerprint: str                # of its weights at cut 0
    description: dict                     # with expected figures, data, command and seed


def save_selection(path: Path | str, artifact: SelectionArtifact) -> None:
    """Write the artifact as JSON."""
    content = {'format': FORMAT, 'kind': KIND, 'light': {'model': artifact.light, 'fingerprint': artifact.light_fingerprint},
               'large': {'model': artifact.large, 'fingerprint': artifact.large_fingerprint},
               'settings': asdict(artifact.settings), **artifact.description}
    write_json(path, content)


def load_selection(path: Path | str, light_fingerprint: str | None = None,
                   large_fingerprint: str | None = None) -> SelectionArtifact:
    """Read what `save_selection` wrote; the models' fingerprints are compared where they are given. Raises ArtifactError, naming both."""
    description = read_artifact(path, TITLE, FORMAT, (KIND,))
    settings = part_of(Selection, description, 'settings', path, TITLE)
    light, large = (part_of(_Model, description, side, path, TITLE) for side in ('light', 'large'))
    for made_for, fingerprint in ((light, light_fingerprint), (large, large_fingerprint)):
        if fingerprint is not None:
            require_fingerprint(path, TITLE, made_for.fingerprint, made_for.model, fingerprint)
    rest = {key: value for key, value in description.items() if key not in ('format', 'kind', 'light', 'large', 'settings')}
    return SelectionArtifact(settings, light.model, light.fingerprint, large.model, large.fingerprint, rest)


def require_same_classes(light: str, light_names: tuple[str, ...], large: str, large_names: tuple[str, ...]) -> None:
    """Raise ArtifactError, naming what differs, unless both models know the same classes in the same order."""
    if tuple(light_names) == tuple(large_names):
        return
    if len(light_names) != len(large_names):
        difference = f'{len(light_names)} classes and {len(large_names)} classes'
    else:
        index = next(k for k, pair in enumerate(zip(light_names, large_names, strict=True)) if pair[0] != pair[1])
        difference = f'as class {index} {light_names[index]!r} and {large_names[index]!r}'
    raise ArtifactError(f'the light model {light!r} and the large model {large!r} have {difference}: expected the same classes')
