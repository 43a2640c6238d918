"""`strategy: auto`: choose the strategy that suits link and robot by measured figures.

The table is `strategies.json` in the large model's folder, written by `evitif evaluate strategies`. Edge and bridge
each choose from the same table and expectations; if they differ, the handshake says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from evitif.files import write_json
from evitif.model.artifact import part_of, read_artifact
from evitif.model.errors import ArtifactError
from evitif.model.folder import find_model_folder
from evitif.settings import AUTO, BRIDGE_SETTINGS, EDGE_SETTINGS, MODEL_SETTINGS, AutoSettings, CommonSettings
from evitif.vocabulary import Strategy

FILE = 'strategies.json'
FORMAT, KIND, TITLE = 1, 'strategies', 'table of strategies'
AS_GOOD = 0.5       # points of accuracy, within which the fewest bytes decide


@dataclass(frozen=True)
class Measured:
    """The measured cost and accuracy of one way to answer."""

    strategy: str                       # split or selection
    cut: int | None                     # of split
    light_model: str | None             # of selection
    multiply_adds: float                # on the robot, for an image
    bytes: dict[float, float]           # by packet error rate: of UDP payload for an image on average, both ways
    points: dict[float, float]          # by packet error rate: of top-1, compared with the large model alone

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return f'split at block {self.cut}' if self.strategy == Strategy.SPLIT else f'selection with {self.light_model}'


def save_table(folder: Path | str, model: str, rows: list[Measured], command: str) -> None:
    """Write what `load_table` reads."""
    content = [{**vars(row), **{name: {f'{rate:g}': value for rate, value in getattr(row, name).items()} for name in ('bytes', 'points')}}
               for row in rows]
    write_json(Path(folder) / FILE, {'format': FORMAT, 'kind': KIND, 'model': model, 'made_by': {'command': command}, 'rows': content})


def load_table(model: str) -> list[Measured]:
    """The table in the model folder `model`. Raises ArtifactError where there is none, or it cannot be used."""
    folder = find_model_folder(model)
    if folder is None or not (folder / FILE).is_file():
        raise ArtifactError(f'{model!r} has no {FILE}, by which strategy auto chooses: expected a model folder that `evitif evaluate '
                            'recovery`, `evitif evaluate selection` and `evitif evaluate strategies` were run for, or '
                            'another strategy')
    path = folder / FILE
    rows = part_of(list[Measured], read_artifact(path, TITLE, FORMAT, (KIND,)), 'rows', path, TITLE)
    if not rows or any(not row.bytes or row.bytes.keys() != row.points.keys() or row.strategy not in ('split', 'selection')
                       for row in rows):
        raise ArtifactError(f'{TITLE} {path}: cannot be used: expected rows of split and selection with figures for the same losses')
    return rows


def choose(rows: list[Measured], frame_bytes: float = 0.0, loss: float = 0.0, multiply_adds: float = 0.0) -> Measured:
    """The most accurate row that fits; among those within half a point of it, the one with the fewest bytes, then multiply-adds.

    :param frame_bytes: that the link is expected to carry for an image, both ways; 0: any
    :param loss: packet error rate that is expected, 0 to 1; between two that were measured it is interpolated
    :param multiply_adds: that the robot can afford for an image; 0: any
    :raises ValueError: none fits; the text says what would
    """
    affordable = [row for row in rows if not multiply_adds or row.multiply_adds <= multiply_adds]
    if not affordable:
        raise ValueError(f'no strategy takes at most {multiply_adds / 1e6:g} million multiply-adds for an image on the robot: expected '
                         f'at least {min(row.multiply_adds for row in rows) / 1e6:.0f}')
    fitting = [row for row in affordable if not frame_bytes or _at(row.bytes, loss) <= frame_bytes]
    if not fitting:
        raise ValueError(f'no strategy takes at most {frame_bytes:g} bytes for an image at {100 * loss:g} % loss: expected at least '
                         f'{math.ceil(min(_at(row.bytes, loss) for row in affordable))}')
    best = max(_at(row.points, loss) for row in fitting)
    return min((row for row in fitting if _at(row.points, loss) >= best - AS_GOOD),
               key=lambda row: (_at(row.bytes, loss), row.multiply_adds))


def resolved(config: CommonSettings) -> tuple[CommonSettings, str]:
    """The settings of the strategy that `auto` stands for, and a sentence for the log; settings of any other strategy as they are.

    A cut or a light model that the settings name is kept. Raises ArtifactError or ValueError.
    """
    if not isinstance(config, AutoSettings):
        return config, ''
    classes = next(known for known in (EDGE_SETTINGS, BRIDGE_SETTINGS, MODEL_SETTINGS) if known[AUTO] is type(config))
    rows = [row for row in load_table(config.model)
            if not (config.heads and row.strategy == Strategy.SELECTION)
            and (row.strategy != Strategy.SPLIT or config.cut in (None, row.cut))
            and (row.strategy != Strategy.SELECTION or not config.light_model
                 or find_model_folder(config.light_model) == find_model_folder(row.light_model or ''))]
    if not rows:
        heads = f', and heads {config.heads!r}, which only strategy split runs' if config.heads else ''
        raise ValueError(f'cut is {config.cut} and light_model {config.light_model!r}{heads}: expected some that the {TITLE} of '
                         f'{config.model!r} has figures of')
    row = choose(rows, config.auto_frame_bytes, config.auto_loss, 1e6 * config.auto_multiply_adds)
    loss = config.auto_loss
    note = (f'strategy auto: {row.title}, {_at(row.bytes, loss):.0f} bytes an image and {_at(row.points, loss):+.2f} points at '
            f'{100 * loss:g} % loss, {row.multiply_adds / 1e6:.0f} million multiply-adds on the robot')
    own = {'cut': row.cut} if row.strategy == Strategy.SPLIT else {'light_model': row.light_model}
    return config.converted(classes[row.strategy], **own), note


def _at(by_loss: dict[float, float], loss: float) -> float:
    """The value at `loss`, interpolated between the measured ones; beyond them, the nearest."""
    rates = sorted(by_loss)
    low = max((rate for rate in rates if rate <= loss), default=rates[0])
    high = min((rate for rate in rates if rate >= loss), default=rates[-1])
    share = 0.0 if high == low else (loss - low) / (high - low)
    return (1 - share) * by_loss[low] + share * by_loss[high]
