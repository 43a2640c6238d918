"""Node parameters as tables: what a parameter is, how a bad value is refused, how it is declared with rclpy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

_TYPE_NAMES = {bool: 'true or false', int: 'an integer', float: 'a number', str: 'a string'}
_SWITCH = ('off', 'on')     # YAML reads these two words as truth values
_LARGEST_INTEGER = 2 ** 63 - 1


class Changeable(Enum):
    """When a parameter may be set after the node has started."""

    ALWAYS = 'at run time'
    UNCONFIGURED = 'while the node is unconfigured'
    NEVER = 'at start only'


@dataclass(frozen=True)
class NodeParameter:
    """One parameter; its type is that of its default. `minimum` and `maximum` are inclusive and in `unit`."""

    name: str
    default: bool | int | float | str
    description: str
    unit: str = ''
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False              # an empty string is refused
    changeable: Changeable = Changeable.UNCONFIGURED

    @property
    def type(self) -> type:
        return type(self.default)

    def expectation(self) -> str:
        """What a value has to be: 'an integer from 1 to 65535'."""
        text = _TYPE_NAMES[self.type]
        if self.choices:
            return 'one of ' + ', '.join(repr(choice) for choice in self.choices)
        if self.minimum is not None and self.maximum is not None:
            text += f' from {self.minimum:g} to {self.maximum:g}' if self.type is float else \
                f' from {self.minimum} to {self.maximum}'
        elif self.minimum is not None:
            text += f' of at least {self.minimum:g}'
        elif self.required:
            text += ' that is not empty'
        return f'{text} ({self.unit})' if self.unit else text

    def refusal(self, value: object) -> str | None:
        """Return why `value` is refused, naming it and what was expected; None where it is accepted."""
        if self._fits(self.converted(value)):
            return None
        return f'{self.name}: expected {self.expectation()}, got {value!r}{self._hint(value)}'

    def converted(self, value: object) -> object:
        """The value in the parameter's own type, where YAML has made another of what was written: `rate:=10`, `source:=0`,
        `batching:=on`; else the value itself."""
        if self.type is str and isinstance(value, bool):
            return _SWITCH[value] if set(_SWITCH) <= set(self.choices) else value
        if self.type in (float, str) and isinstance(value, int) and not isinstance(value, bool):
            return self.type(value)
        return value

    def descriptor(self):
        """The rcl_interfaces/ParameterDescriptor: description with unit, range, read_only."""
        from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
        descriptor = ParameterDescriptor(name=self.name, read_only=self.changeable is Changeable.NEVER)
        descriptor.description = self.description + (f' [{self.unit}]' if self.unit else '')
        descriptor.additional_constraints = f'{self.expectation()}; may be set {self.changeable.value}'
        if self.minimum is not None:
            top = self.maximum
            if self.type is int:
                top = _LARGEST_INTEGER if top is None else int(top)
                descriptor.integer_range = [IntegerRange(from_value=int(self.minimum), to_value=top, step=0)]
            else:
                top = float('inf') if top is None else float(top)
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=top, step=0.0)]
        return descriptor

    def _hint(self, value: object) -> str:
        if self.type is str and isinstance(value, bool):
            return f'; YAML reads yes, no, on, off, y and n as true or false: for a text write {self.name}:="\'…\'"'
        if self.type is str and isinstance(value, float):
            return f'; for a text that looks like a number write {self.name}:="\'{value}\'"'
        return ''

    def _fits(self, value: object) -> bool:
        if self.type is float:
            if not isinstance(value, float) or not math.isfinite(value):
                return False
        elif type(value) is not self.type:
            return False
        if self.choices and value not in self.choices:
            return False
        if self.required and value == '':
            return False
        return not ((self.minimum is not None and value < self.minimum)
                    or (self.maximum is not None and value > self.maximum))


ParameterTable = tuple[NodeParameter, ...]

# What rclpy declares itself in every node.
ROS_PARAMETERS: ParameterTable = (
    NodeParameter('use_sim_time', False, 'take the time from /clock', changeable=Changeable.ALWAYS),
    NodeParameter('start_type_description_service', True, 'offer ~/get_type_description', changeable=Changeable.NEVER),
)
# As diagnostic_updater has it, but true: in a fleet the node names are alike, and the aggregator would take one robot for another.
USE_FQN = NodeParameter('diagnostic_updater.use_fqn', True, 'name the node on /diagnostics with its namespace: `/robot/edge_node: link` '
                        'instead of `edge_node: link`')


def overrides_of(node) -> dict[str, object]:
    """The values by name that the command line and parameter files give this node."""
    return {name: parameter.value for name, parameter in getattr(node, '_parameter_overrides', {}).items()}


def declare(node, table: ParameterTable) -> None:
    """Declare the table's parameters with their overrides. Raises ValueError with the reason for a bad value."""
    overrides = overrides_of(node)
    require_accepted(table, overrides)
    for parameter in table:
        value = parameter.converted(overrides.get(parameter.name, parameter.default))
        # The override is given as the value, since rclpy would take an integer for another type than the default's.
        node.declare_parameter(parameter.name, value, parameter.descriptor(), ignore_override=True)


def require_accepted(table: ParameterTable, values: Mapping[str, object]) -> None:
    """Raise ValueError with the reason for the first value that is not of its parameter's type or range."""
    reason = first_refusal(table, values, configured=False)
    if reason is not None:
        raise ValueError(reason)


def read(node, table: ParameterTable) -> dict[str, bool | int | float | str]:
    """The parameters' present values by name, each of its table's type."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in table}


def changes(node, table: ParameterTable, asked: Iterable) -> list:
    """Those of the rclpy Parameters `asked` for that change something, each of its table's type where it is not refused.

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
    """Why a change of parameters is refused, None where it is accepted. Names that are not the table's are passed."""
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
    """A sentence for each name given that is in no table; ROS ignores such names silently."""
    names = [parameter.name for parameter in (*table, *ROS_PARAMETERS)]
    sentences = []
    for name in sorted(given):
        if name not in names and not name.startswith('qos_overrides.'):
            close = difflib.get_close_matches(name, names, 1)
            meant = f'; is {close[0]!r} meant?' if close else ''
            sentences.append(f'parameter {name!r} is not known and ignored{meant}')
    return sentences
