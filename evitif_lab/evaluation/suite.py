"""Make every table and plot of the recovery documentation again from the artifacts that ship: `evitif evaluate suite`.

What was measured already with the same artifacts is not measured again; an interrupted measurement goes on.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from evitif.files import read_json, write_text
from evitif.model.build import read_description
from evitif.model.code_artifact import KIND as CODE
from evitif.model.folder import DESCRIPTION_FILE, artifact_path
from evitif.recovery import METHODS
from evitif_lab.baselines import LEARNED
from evitif_lab.evaluation.recovery import Measurement, RecoveryEvaluation
from evitif_lab.evaluation.report import plot
from evitif_lab.evaluation.suite_page import METHODS as METHODS_LABEL
from evitif_lab.evaluation.suite_page import page
from evitif_lab.plain import plain
from evitif_lab.writable import require_writable

REPOSITORY = Path(__file__).resolve().parents[2]
# What judges a model whose folder does not say so itself (made_by.configuration.data in model.json).
DATA = {'vit_tiny_patch16_224.augreg_in21k_ft_in1k': 'data/imagenet-photos'}
IMAGENET_CHECKPOINT = 'data/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors'
RATES = (0.3, 0.6, 0.8, 0.9)
QUICK_IMAGES, QUICK_RATES = 200, (0.6, 0.9)
MAIN_IMAGES, SAMPLE_IMAGES = 2000, 300     # at most, for tokens as they travel by default and for all else: an hour in all
MAIN = ('omission', 'paldn')


@dataclass(frozen=True)
class Job:
    """One measurement: `label` says which of the tables it is for."""

    name: str
    label: str
    configuration: RecoveryEvaluation


@dataclass(frozen=True)
class ShippedModel:
    """A folder of `artifacts/`: the methods that were trained for each cut, and where weights and images are."""

    name: str
    model: str                              # as evitif's commands take it
    kinds: dict[int, list[str]]             # by cut
    codes: frozenset[int]                   # cuts with a transform code
    data: str | None
    checkpoint: str | None = None
    pretrained: bool = False

    @property
    def cuts(self) -> list[int]:
        """Where tokens are cut; what fills in patches, at cut 0, is for `evitif evaluate selection` to judge."""
        return sorted(cut for cut in self.kinds if cut)

    @property
    def middle_cut(self) -> int:
        """Where most is measured."""
        return self.cuts[len(self.cuts) // 2]


def shipped_models(artifacts: Path, data: dict[str, str], imagenet_checkpoint: Path) -> list[ShippedModel]:
    """The model folders below `artifacts` that have a recovery, and the folders that have but a recovery for the timm
    model of that name. `data` goes before what a folder says."""
    models = []
    for folder in sorted(path for path in artifacts.iterdir() if path.is_dir()):
        kinds: dict[int, list[str]] = {}
        for path in sorted(folder.glob('*.json')):
            match = re.fullmatch(r'(.+)-cut(\d+)', path.stem)
            if match and match[1] in LEARNED and path.with_suffix('.safetensors').is_file():
                kinds.setdefault(int(match[2]), []).append(match[1])
        if not kinds:
            continue
        codes = frozenset(cut for cut in kinds if artifact_path(folder, cut, CODE).is_file())
        source = data.get(folder.name, DATA.get(folder.name))
        if (folder / DESCRIPTION_FILE).is_file():
            made_by = read_description(folder).get('made_by', {})
            trained_for = made_by.get('configuration', {}).get('data')
            source = source or (trained_for[0] if isinstance(trained_for, list) else trained_for)
            shown = folder.relative_to(REPOSITORY) if folder.is_relative_to(REPOSITORY) else folder
            models.append(ShippedModel(folder.name, str(shown), kinds, codes, source))
        else:
            there = imagenet_checkpoint.is_file()
            models.append(ShippedModel(folder.name, folder.name, kinds, codes, source,
                                       str(imagenet_checkpoint) if there else None, not there))
    return models


def jobs_of(model: ShippedModel, results: Path, quick: bool, images: int | None) -> Iterator[Job]:
    """What is measured of a model. The quick suite takes the middle cut and two rates alone."""
    def job(cut: int, label: str, methods: Iterable[str], seeds: int, judged: int = SAMPLE_IMAGES, **more) -> Job:
        name = f'{model.name}-cut{cut}-{label}'
        return Job(name, label, RecoveryEvaluation(
            model=model.model, checkpoint=model.checkpoint, pretrained=model.pretrained, cut=cut, data=model.data or '',
            methods=tuple(methods), seeds=min(seeds, 2) if quick else seeds, images=QUICK_IMAGES if quick else images or judged,
            json=str(results / f'{name}.json'), **more))

    if not model.cuts:
        return
    middle = model.middle_cut
    rates = (0.0, *(QUICK_RATES if quick else RATES))
    for cut in [middle] if quick else model.cuts:
        methods = [name for name in MAIN if name == 'omission' or name in model.kinds[cut]]
        for label, pattern in (('iid', {}), ('burst8', {'pattern': 'burst', 'burst': 8})):
            if cut in model.codes:
                yield job(cut, label, methods[-1:], 5, judged=MAIN_IMAGES, loss=rates, **pattern)
            yield job(cut, f'{label}-int8', methods, 5, loss=rates, quantisation='int8', **pattern)
    everything = [*METHODS, *(name for name in LEARNED if name in model.kinds[middle])]
    yield job(middle, METHODS_LABEL, everything, 1 if quick else 2, loss=(0.6,) if quick else RATES, quantisation='int8')
    if quick:
        return
    best = [everything[-1] if 'paldn' not in everything else 'paldn']
    for tokens in ([{}] if middle in model.codes else []) + [{'quantisation': 'int8'}]:
        suffix = f'-{tokens["quantisation"]}' if tokens else ''
        for burst in (2, 32):
            yield job(middle, f'burst{burst}{suffix}', best, 3, loss=(0.6,), pattern='burst', burst=burst, **tokens)
        yield job(middle, f'drift{suffix}', best, 3, loss=(0.9,), pattern='drift', **tokens)
    yield job(middle, 'int4', best, 3, loss=(0.6,), quantisation='int4')
    yield job(middle, 'int4-twice', best, 3, loss=(0.6,), quantisation='int4', patch_copies=2)


def measure(job: Job) -> dict:
    """The figures of a job: those on disk where they are of the same model, artifacts and images, else new ones."""
    path = Path(job.configuration.json)
    # Where the result lies, and from where it is called, is no part of the command that makes it again.
    command = command_of(replace(job.configuration, json=path.name))
    measurement = Measurement(job.configuration)
    earlier = read_result(path)
    if earlier is not None and _stands(earlier['identity'], plain(measurement.identity)):
        print(f'{job.name}: measured already', flush=True)
        return earlier
    print(f'{job.name}: {command}', flush=True)
    return measurement.measure(command)


def _stands(earlier: dict, wanted: dict) -> bool:
    """Whether an earlier measurement is the wanted one, or differs from it by having judged more images."""
    images = earlier.get('images')
    earlier = {**earlier, 'pictures': earlier.get('pictures', wanted.get('pictures'))}      # older figures do not say
    return isinstance(images, int) and images >= wanted['images'] and {**earlier, 'images': 0} == {**wanted, 'images': 0}


def read_result(path: Path) -> dict | None:
    """A result on disk, or None where there is none or it cannot be read."""
    try:
        result = read_json(path)
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and isinstance(result.get('identity'), dict) else None


def command_of(c: RecoveryEvaluation) -> str:
    """The command that makes one measurement alone."""
    parts = ['evitif', 'evaluate', 'recovery', '--model', c.model, '--cut', c.cut, '--data', c.data, '--quantisation',
             c.quantisation, '--pattern', c.pattern, '--loss', *(f'{rate:g}' for rate in c.loss), '--methods', *c.methods,
             '--seeds', c.seeds]
    for name in ('checkpoint', 'images', 'json'):
        if getattr(c, name) is not None:
            parts += [f'--{name}', getattr(c, name)]
    if c.patch_copies:
        parts += ['--patch-copies', c.patch_copies]
    if c.pretrained:
        parts.append('--pretrained')
    if c.burst > 1:
        parts += ['--burst', f'{c.burst:g}']
    return shlex.join(map(str, parts))


@dataclass(frozen=True)
class Suite:
    """All measurements of the models below `artifacts`."""

    artifacts: Path | str
    output: Path | str | None = None        # default: docs/results, or reports/evaluate where it is quick
    quick: bool = False
    only: tuple[str, ...] = ()              # names of models; empty: all
    images: int | None = None               # that judge, at most
    data: dict[str, str] = field(default_factory=dict)      # by name of a model, the images that judge it

    def run(self, command: str) -> bool:
        """Measure all that there is data for and write the page; False where nothing could be measured.

        :param command: what the page says it was made by
        """
        output = Path(self.output or (REPOSITORY / ('reports/evaluate' if self.quick else 'docs/results')))
        results = output / 'recovery'
        require_writable(results)
        models = shipped_models(Path(self.artifacts), self.data, Path(IMAGENET_CHECKPOINT))
        notes = []
        for model in self._chosen(models):
            notes += self._measure(model, results)
        found = {}
        for model in models:
            there = [(job, read_result(Path(job.configuration.json))) for job in jobs_of(model, results, self.quick, self.images)]
            if entries := [(job.name, job.label, result) for job, result in there if result is not None]:
                found[model.name] = entries
        if not found:
            return False
        path = output / 'recovery.md'
        write_text(path, page(found, command, notes, results))
        print(f'the tables and plots are in {path}')
        return True

    def _chosen(self, models: list[ShippedModel]) -> list[ShippedModel]:
        names = [model.name for model in models]
        if not names:
            raise ValueError(f'{self.artifacts} has no folder with a trained recovery (<method>-cut<k>.json)')
        for name in self.only:
            if name not in names:
                raise ValueError(f'{name!r} has no recovery in {self.artifacts} (expected some of {", ".join(names)})')
        return [model for model in models if not self.only or model.name in self.only]

    def _measure(self, model: ShippedModel, results: Path) -> list[str]:
        """Measure a model and draw its plots; returns a sentence for each measurement that was left out."""
        if model.data is None:
            return [_left_out(model.name, f'it is not known which images judge it: say so with --data {model.name}=FOLDER')]
        notes = []
        for job in jobs_of(model, results, self.quick, self.images):
            try:
                result = measure(job)
            except (ValueError, OSError) as error:      # no data, no weights, an artifact of another model, …
                notes.append(_left_out(job.name, error))
                continue
            if job.label == METHODS_LABEL:
                print(plot(result, Path(job.configuration.json).with_suffix('.png')), flush=True)
        return notes


def _left_out(name: str, reason: object) -> str:
    note = f'{name} was left out: {reason}'
    print(note, file=sys.stderr, flush=True)
    return note
