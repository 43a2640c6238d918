"""The launch files' arguments: made from the nodes' settings, read and checked together before anything starts."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, SomeSubstitutionsType
from launch.actions import DeclareLaunchArgument
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
from launch_ros.parameter_descriptions import ParameterValue
from rclpy.exceptions import InvalidNamespaceException, InvalidTopicNameException
from rclpy.validate_namespace import validate_namespace
from rclpy.validate_topic_name import validate_topic_name

from evitif.settings import Setting

_TRUE, _FALSE = ('true', '1', 'yes', 'on'), ('false', '0', 'no', 'off')      # in any case, as Navigation2 takes them
_LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
LEFT_OUT = 'Default: as in params_file'
_LAUNCHS_OWN = ('launch-prefix', 'launch-prefix-filter', 'emulate_tty', 'sigterm_timeout', 'sigkill_timeout')


@dataclass(frozen=True)
class Argument:
    """A launch argument. `read` takes its text to a value, or raises ValueError with what was expected; empty text counts as not given."""

    name: str
    description: str
    read: Callable[[str], object] = str
    default: SomeSubstitutionsType = ''

    def declaration(self) -> DeclareLaunchArgument:
        """What `--show-args` lists."""
        # Without `choices`: launch raises where a value is none of them, after it may have started something (launch_ending.py).
        return DeclareLaunchArgument(self.name, default_value=self.default, description=self.description)


def yes_or_no(text: str) -> bool:
    """Whether the text says yes."""
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError('expected true or false')
    return text.lower() in _TRUE


def log_level(text: str) -> str:
    """A severity in any case, or `<logger>:=<severity>` as ROS has it."""
    level = text.rpartition(':=')[2].lower()
    if level not in _LOG_LEVELS:
        raise ValueError(f'expected one of {", ".join(_LOG_LEVELS)}')
    return text[:len(text) - len(level)] + level


def namespace(text: str) -> str:
    """A namespace, absolute or relative."""
    try:
        validate_namespace(text if text.startswith('/') else f'/{text}')
    except InvalidNamespaceException as error:
        raise ValueError(f'expected a namespace: {_reason(error)}') from None
    return text


def topic(text: str) -> str:
    """A topic's name."""
    try:
        validate_topic_name(text)
    except InvalidTopicNameException as error:
        raise ValueError(f'expected a topic: {_reason(error)}') from None
    return text


def existing_file(text: str) -> str:
    """The path of a file."""
    if not Path(text).is_file():
        raise ValueError('expected a file, there is none')
    return text


def show_rviz(text: str) -> bool:
    """Whether to start RViz, which a robot without a screen need not have."""
    if not yes_or_no(text):
        return False
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError:
        raise ValueError('expected false, since RViz (the package rviz2) is not installed here') from None
    return True


def parameter_argument(parameter: Setting, name: str | None = None, description: str | None = None) -> Argument:
    """The argument that sets a node's parameter, under the parameter's name or another one; if it is left out, the params_file counts."""
    def read(text: str) -> object:
        try:
            value = yes_or_no(text) if parameter.type is bool else parameter.type(text)
        except ValueError:
            value = None
        if value is None or parameter.refusal(value):
            raise ValueError(f'expected {parameter.expectation()}')
        return value
    text = re.sub('; empty: [^;]*', '', description or parameter.description)     # empty has another meaning here
    if parameter.type is not str or parameter.choices:
        text += f'; {parameter.expectation()}'
    return Argument(name or parameter.name, f'{text}. {LEFT_OUT}', read)


def parameter_arguments(table: Iterable[Setting], without: Collection[str] = ()) -> tuple[Argument, ...]:
    """The arguments of a node's settings that its launch file takes."""
    return tuple(parameter_argument(parameter) for parameter in table if parameter.launch and parameter.name not in without)


def navigation2_arguments(params_file: SomeSubstitutionsType, whose: str = 'the node') -> tuple[Argument, ...]:
    """What every launch file takes, under Navigation2's names. `autostart` and `use_sim_time` are left to the params_file."""
    return (
        Argument('namespace', f'namespace of {whose} and the topics', namespace),
        Argument('params_file', f'YAML file with the parameters of {whose}; may contain substitutions like $(find-pkg-share …)',
                 default=params_file),
        Argument('use_sim_time', f'take the time from /clock (true or false). {LEFT_OUT}', yes_or_no),
        Argument('autostart', f'activate {whose}; false: leave that to a lifecycle manager (true or false). {LEFT_OUT}', yes_or_no),
        Argument('use_respawn', f'start {whose} again after a crash, but not if the configuration is wrong (true or false)', yes_or_no,
                 'false'),
        Argument('log_level', f'lowest severity to log: {", ".join(_LOG_LEVELS)}', log_level, 'info'),
    )


def read_arguments(context: LaunchContext, arguments: Iterable[Argument]) -> dict[str, object]:
    """The values of the arguments that are given or have a default. Raises ValueError: argument, value and what was expected."""
    values = {}
    for argument in arguments:
        text = LaunchConfiguration(argument.name).perform(context).strip()
        if not text:    # an including file's own configuration of that name may be empty
            text = perform_substitutions(context, normalize_to_list_of_substitutions(argument.default))
        if not text:
            continue
        try:
            values[argument.name] = argument.read(text)
        except ValueError as error:
            raise ValueError(f'launch argument {argument.name}:={text}: {error}') from None
    return values


def warn_of_unknown_arguments(context: LaunchContext, arguments: Iterable[Argument]) -> None:
    """Warn of arguments that launch would ignore silently; only in the file on the command line, since others may declare them."""
    file = Path(context.get_locals_as_dict().get('current_launch_file_path', '')).name
    if file not in [Path(word).name for word in sys.argv]:
        return
    names = [argument.name for argument in arguments]
    for text in context.argv:
        name = text.partition(':=')[0]
        if name in names or name in _LAUNCHS_OWN:
            continue
        close = difflib.get_close_matches(name, names, 1)
        meant = f'; is {close[0]} meant?' if close else ''
        get_logger('launch').warning(f'launch argument {text} is not known to {file} and ignored{meant}')


def parameter_values(values: Mapping[str, object]) -> dict[str, ParameterValue]:
    """For a node's `parameters`: text that looks like a number stays text."""
    return {name: ParameterValue(value, value_type=type(value)) for name, value in values.items()}


def _reason(error: Exception) -> str:
    """rclpy's first line without its title: 'Invalid namespace: namespace must not contain ...:'."""
    return str(error).splitlines()[0].partition(': ')[2].rstrip(':')
