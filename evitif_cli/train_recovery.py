"""`evitif train recovery`: train PALDN, or what it is compared with, for a model and cuts; needs images, no labels."""

from __future__ import annotations

import argparse
from dataclasses import replace

from evitif_cli.arguments import add_model, add_overwrite, chosen, show
from evitif_lab.commands.options import not_negative, positive, positive_int, rate, rate_below_one, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_model(parser, several_cuts=True, quantisation='int8')
    parser.add_argument('--data', nargs='+', required=True, help='fashion-mnist, or folders of images')
    parser.add_argument('--output', help='folder of the artifacts (default: the model folder)')
    parser.add_argument('--method', nargs='+', help='paldn (default), surrogate, linear, srcnn, edsr, tuned-tail')
    parser.add_argument('--initial', metavar='JSON', help='go on from this artifact for the same model and cut')
    parser.add_argument('--budget', type=rate, help="largest share of the tail's multiply-adds (default: 0.1)")
    for name in ('steps', 'batch-size'):
        parser.add_argument(f'--{name}', type=positive_int)
    parser.add_argument('--views', type=positive_int, nargs='+', metavar='N',
                        help='random crops of each image, a number for each of --data (default: the images as they are)')
    parser.add_argument('--limits', type=positive_int, nargs='+', metavar='N',
                        help='images at most, a number for each of --data (default: all)')
    parser.add_argument('--learning-rate', type=positive)
    parser.add_argument('--logit-weight', type=not_negative)
    for name in ('lowest-loss', 'highest-loss', 'average-decay'):
        parser.add_argument(f'--{name}', type=rate_below_one)
    parser.add_argument('--burst-share', type=rate)
    parser.add_argument('--seed', type=seed)
    parser.add_argument('--precision', choices=('fp32', 'bf16'), help='of the arithmetic (default: fp32)')
    parser.add_argument('--no-code', action='store_true',
                        help='leave out the transform code, which is fitted first for cuts that have none (a minute each)')
    add_overwrite(parser, 'artifacts of another configuration, and begin anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.training.recovery import RecoveryPlan, RecoveryTraining
    configuration = RecoveryTraining(**chosen(options, RecoveryTraining))
    show(configuration)
    plan = RecoveryPlan(configuration, command, options.overwrite)
    if not options.no_code:
        _fit_codes(configuration, command)
    descriptions = plan.train()
    if not options.no_code and 'paldn' in configuration.method:
        _measure_rates(configuration, descriptions, command)
    for description in descriptions:
        figures = description['figures']
        print(f'{description["kind"]} for {description["model"]} at cut {description["cut"]}: {figures["parameters"]:,} '
              f'parameters, {100 * figures["share_of_tail_multiply_adds"]:.1f} % of the tail\'s multiply-adds')
    return 0


def _fit_codes(recovery, command: str) -> None:
    """The transform codes that are not there yet, from the same images: fewer of them, since a code has a closed form."""
    from evitif_cli.train_code import tell
    from evitif_lab.training.transform_code import train_code
    table = 'paldn' not in recovery.method       # else it is measured with that, once it is trained
    for description in train_code(_code_training(recovery), command, keep=True, table=table):
        tell(description)


def _measure_rates(recovery, descriptions: list[dict], command: str) -> None:
    """What the codes' rates cost with the PALDN that was just trained."""
    from evitif_cli.train_code import tell
    from evitif_lab.training.rate_measurement import IMAGES
    from evitif_lab.training.transform_code import measure_again
    cuts = sorted({description['cut'] for description in descriptions})
    for description in measure_again(replace(_code_training(recovery), cut=cuts, images=IMAGES), command, keep=True):
        tell(description)


def _code_training(recovery):
    from evitif_lab.training.transform_code import CodeTraining
    names = ('model', 'data', 'output', 'checkpoint', 'pretrained', 'cut', 'seed', 'device')
    code = CodeTraining(**{name: getattr(recovery, name) for name in names})
    limits = [min(limit, code.images) for limit in recovery.limits or [code.images] * len(recovery.data)]
    views = None if recovery.views is None else [min(count, 4) for count in recovery.views]
    return replace(code, limits=limits, views=views)
