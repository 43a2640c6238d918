"""`evitif fetch`: bring a data set to this machine."""

from __future__ import annotations

import argparse

from evitif.datasets import BY_NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('name', choices=tuple(BY_NAME), help='moving-fashion is made from the images of fashion-mnist')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.data.download import fetch_fashion_mnist
    print(f'Fashion-MNIST is in {fetch_fashion_mnist()}')
    return 0
