"""`evitif divide`: divide a folder into images to train with and images to judge by."""

from __future__ import annotations

import argparse

from evitif_lab.commands.options import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.description = 'Make FOLDER/train and FOLDER/val of the folder IMAGES, by symbolic links.'
    parser.add_argument('images', metavar='IMAGES')
    parser.add_argument('folder', metavar='FOLDER')
    parser.add_argument('--every', type=whole(2), default=6, metavar='N', help='each Nth image judges (default: 6)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.data.divide import split_folder
    counts = split_folder(options.images, options.folder, options.every)
    print(f'{options.folder}: {counts["train"]} images to train, {counts["val"]} to judge by')
    return 0
