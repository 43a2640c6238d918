"""`evitif train model`: train a timm Vision Transformer on labelled images."""

from __future__ import annotations

import argparse

from evitif.model.device import place
from evitif.wording import few
from evitif_cli.arguments import add_overwrite, configured, keyword
from evitif_lab.commands.configuration import add_options
from evitif_lab.training.backbone import BackboneTraining, train_backbone
from evitif_lab.training.judging import describe_figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, BackboneTraining)
    parser.add_argument('--model-kwargs', nargs='*', type=keyword, metavar='NAME=VALUE',
                        help='keyword arguments of timm.create_model, such as patch_size=4 depth=6')
    add_overwrite(parser, 'a model that is there, and begin anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    given = options.model_kwargs or ()
    options.model_kwargs = dict(given)
    if len(options.model_kwargs) < len(given):
        raise ValueError(f'--model-kwargs are {few(name for name, _ in given)}: expected each name once')
    configuration = configured(options, BackboneTraining)
    print(place(configuration.device, configuration.precision).sentence)
    figures = train_backbone(configuration, command, options.overwrite)
    print(f'{configuration.output}: {describe_figures(figures)}, {figures["parameters"]:,} parameters')
    return 0
