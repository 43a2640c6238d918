"""The params_file of a launch file: checked before anything starts, with substitutions as Navigation2 has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from launch import LaunchContext
from launch.logging import get_logger
from launch_ros.parameter_descriptions import ParameterFile

PARAMETERS_KEY = 'ros__parameters'


class CheckedParameterFile:
    """A well-formed parameter file, `file` for a node's `parameters`. Raises ValueError, naming the file and what is wrong with it."""

    def __init__(self, context: LaunchContext, path: str):
        self._origin = f'launch argument params_file:={path}'
        try:
            text = Path(path).expanduser().read_text(encoding='utf-8')
        except UnicodeDecodeError:
            raise ValueError(f'{self._origin}: expected a YAML file of parameters, found no text') from None
        except OSError as error:
            raise ValueError(f'{self._origin}: expected a YAML file of parameters: {error.strerror}') from None
        # launch drops backslashes where it looks for substitutions, so it looks only where there are some.
        self.file = ParameterFile(str(Path(path).expanduser()), allow_substs='$(' in text)
        try:
            content = yaml.safe_load(self.file.evaluate(context).read_text(encoding='utf-8'))
        except yaml.YAMLError as error:
            mark = getattr(error, 'problem_mark', None)
            where = f', line {mark.line + 1}' if mark else ''
            raise ValueError(f'{self._origin}: not valid YAML{where}: {" ".join(str(getattr(error, "problem", error)).split())}') from None
        except Exception as error:  # whatever a substitution raises
            reason = str(error).strip().splitlines()[-1].partition(', searching: ')[0].strip('"')
            raise ValueError(f'{self._origin}: a substitution cannot be made: {reason}') from None
        self._nodes = dict(self._read(content))

    def says(self, node: str, parameter: str) -> object | None:
        """The value that the file gives to a parameter of the node with this full name; None if it gives none."""
        value = None
        for pattern, parameters in sorted(self._nodes.items(), key=lambda item: item[0] == node):   # the full name comes last: it wins
            if re.fullmatch(_expression(pattern), node):
                value = parameters.get(parameter, value)
        return value

    def warn_unless_for(self, *nodes: str) -> None:
        """Warn if the file has nothing for these nodes; ROS ignores it silently then."""
        if not any(re.fullmatch(_expression(pattern), node) for pattern in self._nodes for node in nodes):
            get_logger('launch').warning(f'{self._origin} has no parameters for {", ".join(nodes)}: it is about '
                                         f'{", ".join(self._nodes) or "no node"}')

    def _read(self, content: object, above: str = '') -> Iterator[tuple[str, dict[str, object]]]:
        """Pairs of a node's name or pattern and its parameters; nested names are joined by dots."""
        if not isinstance(content, Mapping):
            raise ValueError(f'{self._origin}: expected node names with {PARAMETERS_KEY} below each, found '
                             f'{"nothing" if content is None else repr(content)[:60]}{f" below {above}" if above else ""}')
        for key, below in content.items():
            if key == PARAMETERS_KEY:
                yield above or '/**', dict(_flat(below))
            else:
                yield from self._read(below, f'{above}/{str(key).strip("/")}')


def _flat(parameters: object, above: str = '') -> Iterator[tuple[str, object]]:
    if not isinstance(parameters, Mapping):
        if above:
            yield above, parameters
        return
    for key, value in parameters.items():
        yield from _flat(value, f'{above}.{key}' if above else str(key))


def _expression(pattern: str) -> str:
    """A regular expression for a node name pattern of ROS: `*` is one name, `**` any number of them."""
    parts = {'**': r'(/\w+)*', '*': r'/\w+'}
    return ''.join(parts.get(part, '/' + re.escape(part)) for part in pattern.strip('/').split('/'))
