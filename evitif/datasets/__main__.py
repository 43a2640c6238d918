"""`python -m evitif.datasets`: bring a data set to this machine, or divide a folder into images to train and to judge by."""

from __future__ import annotations

import argparse
import sys

from evitif.datasets import fashion_mnist, split_folder
from evitif_lab.commands.command import run
from evitif_lab.commands.options import whole


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m evitif.datasets', description=__doc__)
    verbs = parser.add_subparsers(dest='verb', required=True)
    fetch = verbs.add_parser('fetch', help='download a data set unless it is there')
    fetch.add_argument('name', choices=['fashion-mnist'])
    divide = verbs.add_parser('split', help='make OUTPUT/train and OUTPUT/val of a folder of images, by symbolic links')
    divide.add_argument('folder')
    divide.add_argument('output')
    divide.add_argument('--every', type=whole(2), default=6, metavar='N', help='each Nth image judges (default: 6)')
    options = parser.parse_args(arguments)
    return run('evitif', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.verb == 'split':
        counts = split_folder(options.folder, options.output, options.every)
        print(f'{options.output}: {counts["train"]} images to train, {counts["val"]} to judge by')
    else:
        print(f'Fashion-MNIST is in {fashion_mnist.fetch()}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
