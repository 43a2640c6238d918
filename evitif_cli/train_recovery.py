"""`evitif train recovery`: train PALDN, or what it is compared with, for a model and cuts; needs images, no labels."""

from __future__ import annotations

import argparse
from dataclasses import replace

from evitif_cli.arguments import add_overwrite, configured
from evitif_cli.train_code import tell, tell_steps
from evitif_lab.commands.configuration import add_options
from evitif_lab.training.entropy_training import measure_steps_again, train_entropy_code
from evitif_lab.training.rate_measurement import IMAGES
from evitif_lab.training.recovery import RecoveryPlan, RecoveryTraining
from evitif_lab.training.transform_code import CodeTraining, measure_again, train_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, RecoveryTraining)
    parser.add_argument('--no-code', action='store_true',
                        help='leave out the transform code, which is fitted first for cuts that have none (a minute each)')
    add_overwrite(parser, 'artifacts of another configuration, and begin anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, RecoveryTraining)
    plan = RecoveryPlan(configuration, command, options.overwrite)
    codes = not options.no_code and configuration.head is None      # which belong to the backbone, whatever reads it
    if codes:
        _fit_codes(configuration, command)
    descriptions = plan.train()
    if codes and 'paldn' in configuration.method:
        _measure_rates(configuration, descriptions, command)
    for description in descriptions:
        figures = description['figures']
        print(f'{description["kind"]} for {description["model"]} at cut {description["cut"]}: {figures["parameters"]:,} '
              f'parameters, {100 * figures["share_of_tail_multiply_adds"]:.1f} % of the tail\'s multiply-adds')
    return 0


def _fit_codes(recovery: RecoveryTraining, command: str) -> None:
    """The transform codes that are not there yet, from the same images: fewer of them, since a code has a closed form."""
    table = 'paldn' not in recovery.method       # else it is measured with that, once it is trained
    for description in train_code(_code_training(recovery), command, keep=True, table=table):
        tell(description)
    for description in train_entropy_code(_code_training(recovery), command, keep=True):
        tell_steps(description)


def _measure_rates(recovery: RecoveryTraining, descriptions: list[dict], command: str) -> None:
    """What the codes' rates cost with the PALDN that was just trained."""
    cuts = sorted({description['cut'] for description in descriptions})
    for description in measure_again(replace(_code_training(recovery), cut=cuts, images=IMAGES), command, keep=True):
        tell(description)
    measure_steps_again(replace(_code_training(recovery), cut=cuts), keep=True)


def _code_training(recovery: RecoveryTraining) -> CodeTraining:
    names = ('model', 'data', 'output', 'checkpoint', 'pretrained', 'cut', 'seed', 'device')
    code = CodeTraining(**{name: getattr(recovery, name) for name in names})
    limits = [min(limit, code.images) for limit in recovery.limits or [code.images] * len(recovery.data)]
    views = None if recovery.views is None else [min(count, 4) for count in recovery.views]
    return replace(code, limits=limits, views=views)
