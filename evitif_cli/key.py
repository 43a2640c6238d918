"""`evitif key new`: a pre-shared key for a robot and its bridge."""

from __future__ import annotations

import argparse

from evitif.protocol.sealing.keys import write_key_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.description = ('Write 32 random bytes in base64 into FILE, which only its owner can read. The same file belongs on the robot '
                          'and on the bridge.')
    parser.add_argument('file', metavar='FILE', help='a name that is not in use; a key is never overwritten')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    write_key_file(options.file)
    print(f'wrote a new key to {options.file} (mode 0600); bring it to the other side by a way that nobody else can read, keep its '
          'mode there, and set key_file on both sides')
    return 0
