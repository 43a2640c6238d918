"""`evitif train head`: train a head on a backbone's tokens."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import add_overwrite, configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.training.place_head import PlaceTraining, train_place_head
from evitif_lab.trials.place_figures import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, PlaceTraining)
    add_overwrite(parser, 'a head that is there, and begin anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, PlaceTraining)
    description = train_place_head(configuration, command, options.overwrite)
    figures = description['figures']
    print(f'\n{configuration.output}: {figures["parameters"]:,} parameters, trained with {figures["trained_with"]} images in '
          f'{figures["seconds"]} s ({figures["cpu_seconds"]} s of processor time), judged by {figures["judged_by"]}')
    if 'own_model' in description:
        print(description['own_model'])
    print(describe(figures))
    return 0
