"""`evitif train head`: train a head beside a backbone, which stays as it is unless it is told otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from evitif.vocabulary import Task
from evitif_cli.arguments import add_overwrite, configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.training.image_head import IMAGE_TASKS, ImageHeadTraining, train_image_head
from evitif_lab.training.judging import describe_figures
from evitif_lab.training.place_head import PLACE_TASKS, PlaceTraining, train_place_head
from evitif_lab.trials.place_figures import describe

# By task: its configuration, what trains, and what is said of it. A configuration has the option --task.
TRAININGS: dict[str, tuple[type, Callable[..., dict], Callable[[dict], str]]] = {}


def _said_of_image_head(description: dict) -> str:
    figures = description['figures']
    if description['task'] == Task.EMBED:
        return f'the nearest other image is of the same class for {100 * figures["nearest_is_alike"]:.1f} % of those that judge' \
            if 'nearest_is_alike' in figures else 'a vector of each image'
    return f'{len(description["labels"])} classes, {describe_figures(figures)}'


def _said_of_place_head(description: dict) -> str:
    own = f'{description["own_model"]}\n' if 'own_model' in description else ''
    return own + describe(description['figures'])


TRAININGS.update(dict.fromkeys(IMAGE_TASKS, (ImageHeadTraining, train_image_head, _said_of_image_head)))
TRAININGS.update(dict.fromkeys(PLACE_TASKS, (PlaceTraining, train_place_head, _said_of_place_head)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb: those of all tasks, each once."""
    parser.add_argument('--task', choices=tuple(TRAININGS), default=Task.CLASSIFY.value, help='what the head says (default: classify)')
    for kind in dict.fromkeys(kind for kind, _, _ in TRAININGS.values()):
        add_options(parser, kind, alias={'model': '--backbone'}, once=True)
    add_overwrite(parser, 'a head that is there, and begin anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    kind, train, said = TRAININGS[options.task]
    _require_own(options, kind)
    configuration: Any = configured(options, kind)
    description = train(configuration, command, options.overwrite)
    figures = description['figures']
    print(f'{configuration.output}: trained with {figures["trained_with"]} images in {figures["seconds"]} s '
          f'({figures["cpu_seconds"]} s of processor time)', said(description), sep='\n')
    if 'own_model' not in description:
        print(f'the codes and the PALDN of {description["model"]} belong to it and its cut, and serve this head as they are; `evitif train '
              f'code --head {configuration.output}` and `evitif train recovery --head {configuration.output}` fit some to its own answers')
    return 0


def _require_own(options: argparse.Namespace, kind: type) -> None:
    """Raise ValueError for an option that another task has."""
    own = {field.name for field in fields(kind)}
    others = {field.name for other, _, _ in TRAININGS.values() for field in fields(other)} - own
    if foreign := [name for name in sorted(others) if getattr(options, name, None) is not None]:
        raise ValueError(f'--{foreign[0].replace("_", "-")} is no option of --task {options.task}: expected none')
