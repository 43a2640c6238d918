"""`evitif calibrate`: choose when the robot answers alone and how much it sends, for a light and a large model."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.training.calibration import Calibration, calibrate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, Calibration)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    path, artifact = calibrate(configured(options, Calibration), command)
    expected, settings = artifact.description['expected'], artifact.settings
    print(f'{path}: eta {settings.eta:.3f}, delta {settings.delta:g}, patches as {settings.quantisation}, temperature '
          f'{settings.temperature:g}, prior {settings.prior_weight:g}\n'
          f'expected on {expected["images"]} training images: {100 * expected["top1"]:.2f} % (light alone '
          f'{100 * expected["top1_light"]:.2f} %, large alone {100 * expected["top1_large"]:.2f} %), '
          f'{100 * expected["asked"]:.0f} % of the images asked about, cost '
          f'{expected["cost"]:.3f}, {expected["bytes"]:.0f} bytes an image')
    return 0
