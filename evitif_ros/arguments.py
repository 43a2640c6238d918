"""What is wrong with a node's command line, in a sentence: rcl says what its parser found, not what it expected."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise

from rclpy.utilities import remove_ros_args

_USAGE = '--ros-args -p name:=value -r from:=to --params-file FILE --log-level LEVEL'
# What rcl calls a part of the command line, and what it has to be.
_EXPECTED = {
    'parameter override rule': '-p name:=value, with the value in YAML',
    'remap rule': '-r from:=to, in names of letters, digits and _, joined by /; a namespace begins with / (-r __ns:=/name), a node\'s name '
                  'has none (-r __node:=name)',
    'params file': '--params-file FILE, in YAML as `ros2 param dump` writes it',
    'log level': '--log-level debug, info, warn, error or fatal, or that of one logger, NAME:=LEVEL',
}
_UNPARSED = re.compile(r"Couldn't parse (?P<what>[^:']+): '(?P<given>.*)'\. Error: (?P<reason>.*)", re.DOTALL)


def refuse_remapped_parameters(arguments: list[str], parameters: Collection[str]) -> None:
    """Raise ValueError if one of `parameters`, by name, is given the way topics are remapped: ROS would ignore it silently."""
    for before, argument in pairwise(['', *arguments]):
        name, assigned, _ = argument.partition(':=')
        if assigned and name in parameters and before not in ('-p', '--param'):
            raise ValueError(f'argument {argument!r} remaps a topic, and {name} is a parameter; expected --ros-args -p {argument}')


def refuse_other_arguments(arguments: list[str]) -> None:
    """Raise ValueError for an argument that is not ROS's: a node has none of its own, and would ignore it silently."""
    others = remove_ros_args(arguments)
    if others:
        raise ValueError(f'argument {others[0]!r} is not known; expected {_USAGE}')


def argument_sentence(error: Exception) -> str:
    """What rclpy said about the arguments, and what was expected."""
    if type(error).__name__ == 'UnknownROSArgsError':
        return f'ROS argument {_listed(str(error))} is not known; expected {_USAGE}'
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    text = re.sub(r', at [^\s,]+:\d+', '', text)  # rcl appends where in its own source it noticed
    match = _UNPARSED.search(text)
    if match is None or match['what'] not in _EXPECTED:
        return text
    # rcl numbers the kinds of its lexemes, which says nothing to anybody.
    reason = '' if 'lexeme' in match['reason'] or match['reason'] == 'error not set' else f' ({match["reason"].strip()})'
    return f'{match["given"]!r} is no {match["what"]}{reason}; expected {_EXPECTED[match["what"]]}'


def _listed(text: str) -> str:
    return ', '.join(re.findall(r"'([^']*)'", text)) or text
