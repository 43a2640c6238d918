"""Settings as a node's parameters: how they are declared with rclpy, read, and guarded when they change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evitif.settings import Changeable, Setting, Settings, setting, settings_of

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node
    from rclpy.parameter import Parameter

_LARGEST_INTEGER = 2 ** 63 - 1

ParameterTable = tuple[Setting, ...]

# What rclpy declares itself in every node.
ROS_PARAMETERS: ParameterTable = (
    Setting('use_sim_time', False, 'take the time from /clock', changeable=Changeable.ALWAYS),
    Setting('start_type_description_service', True, 'offer ~/get_type_description', changeable=Changeable.NEVER),
)
# As diagnostic_updater has it, but true: in a fleet the node names are alike, and the aggregator would take one robot for another.
USE_FQN = Setting('diagnostic_updater.use_fqn', True, 'name the node on /diagnostics with its namespace: `/robot/edge_node: link` instead '
                  'of `edge_node: link`')


AUTOSTART = Setting('autostart', True, 'configure and activate without being asked; false: wait for lifecycle transitions',
                    changeable=Changeable.NEVER)


@dataclass(frozen=True, kw_only=True)
class StatisticsSettings(Settings):
    """For every node that publishes `link_stats`."""

    publish_stats_rate: float = setting(1.0, 'messages a second on `link_stats`', unit='Hz', minimum=0.1, maximum=50.0,
                                        changeable=Changeable.ALWAYS)


def table_of(*classes: type[Settings]) -> ParameterTable:
    """The parameters of these settings, each once."""
    return tuple({each.name: each for cls in classes for each in settings_of(cls)}.values())


def prefixed(prefix: str, table: Iterable[Setting], remark: str) -> ParameterTable:
    """The parameters with a prefix to their names and a remark in their descriptions."""
    return tuple(replace(each, name=f'{prefix}{each.name}', description=re.sub(r'(?=;|$)', f', {remark}', each.description, count=1))
                 for each in table)


def descriptor(parameter: Setting) -> ParameterDescriptor:
    """Its description with the unit, its range, and whether it is read_only."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    found = ParameterDescriptor(name=parameter.name, read_only=parameter.changeable is Changeable.NEVER)
    found.description = parameter.description + (f' [{parameter.unit}]' if parameter.unit else '')
    found.additional_constraints = f'{parameter.expectation()}; may be set {parameter.changeable.value}'
    if parameter.minimum is not None:
        low = parameter.minimum if parameter.also is None else min(parameter.minimum, parameter.also)
        if parameter.type is int:
            top = _LARGEST_INTEGER if parameter.maximum is None else int(parameter.maximum)
            found.integer_range = [IntegerRange(from_value=int(low), to_value=top, step=0)]
        else:
            top = float('inf') if parameter.maximum is None else float(parameter.maximum)
            found.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=top, step=0.0)]
    return found


def overrides_of(node: Node) -> dict[str, object]:
    """The values by name that the command line and parameter files give this node."""
    return {name: parameter.value for name, parameter in getattr(node, '_parameter_overrides', {}).items()}


def declare(node: Node, table: ParameterTable) -> None:
    """Declare the table's parameters with their overrides. Raises ValueError with the reason for a bad value."""
    overrides = overrides_of(node)
    require_accepted(table, overrides)
    for parameter in table:
        value = parameter.converted(overrides.get(parameter.name, parameter.default))
        # The override is given as the value, since rclpy would take an integer for another type than the default's.
        node.declare_parameter(parameter.name, value, descriptor(parameter), ignore_override=True)


def require_accepted(table: ParameterTable, values: Mapping[str, object]) -> None:
    """Raise ValueError with the reason for the first value that does not fit its parameter's type or range."""
    reason = first_refusal(table, values, configured=False)
    if reason is not None:
        raise ValueError(reason)


def read(node: Node, table: ParameterTable) -> dict[str, bool | int | float | str]:
    """The parameters' present values by name, each of its table's type."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in table}


def changes(node: Node, table: ParameterTable, asked: Iterable[Parameter]) -> list[Parameter]:
    """The rclpy Parameters among `asked` that change something, each converted to its table's type unless it is refused.

    A parameter that already has the value is left out, read-only ones too: so a node's own dump can be loaded again.
    """
    from rclpy.parameter import Parameter
    by_name = {parameter.name: parameter for parameter in table}
    found = []
    for new in asked:
        declared = by_name.get(new.name)
        if declared is not None and declared.refusal(new.value) is None:
            new = Parameter(new.name, value=declared.converted(new.value))
        old = node.get_parameter(new.name) if node.has_parameter(new.name) else None
        if old is None or (old.type_, old.value) != (new.type_, new.value):
            found.append(new)
    return found


def first_refusal(table: ParameterTable, values: Mapping[str, object], configured: bool) -> str | None:
    """Why a change of parameters is refused; None if it is accepted. Names that the table lacks are accepted."""
    by_name = {parameter.name: parameter for parameter in table}
    for name, value in values.items():
        parameter = by_name.get(name)
        if parameter is None:
            continue
        if configured and parameter.changeable is Changeable.UNCONFIGURED:
            return (f'{name}: can only be set while the node is unconfigured '
                    f'(ros2 lifecycle set <node> deactivate, then cleanup), got {value!r}')
        refusal = parameter.refusal(value)
        if refusal is not None:
            return refusal
    return None


def misspelled(table: ParameterTable, given: Iterable[str]) -> list[str]:
    """A sentence for each given name that no table has; ROS ignores such names silently."""
    names = [parameter.name for parameter in (*table, *ROS_PARAMETERS)]
    sentences = []
    for name in sorted(given):
        if name not in names and not name.startswith('qos_overrides.'):
            close = difflib.get_close_matches(name, names, 1)
            meant = f'; is {close[0]!r} meant?' if close else ''
            sentences.append(f'parameter {name!r} is not known and ignored{meant}')
    return sentences
