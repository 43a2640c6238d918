"""`python -m evitif.datasets fetch fashion-mnist`: bring a data set to this machine."""

from __future__ import annotations

import argparse
import sys

from evitif.datasets import DatasetError, fashion_mnist


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m evitif.datasets', description=__doc__)
    verbs = parser.add_subparsers(dest='verb', required=True)
    fetch = verbs.add_parser('fetch', help='download a data set unless it is there')
    fetch.add_argument('name', choices=['fashion-mnist'])
    parser.parse_args(arguments)
    try:
        print(f'Fashion-MNIST is in {fashion_mnist.fetch()}')
    except DatasetError as error:
        print(f'evitif: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
