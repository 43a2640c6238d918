"""The package's nodes as actions of a launch file, and a launch file around them that leaves no trace in one that includes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import PopLaunchConfigurations, PushLaunchConfigurations
from launch_ros.actions import Node
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from evitif_ros.launch_arguments import Argument, parameter_values, read_arguments, warn_of_unknown_arguments
from evitif_ros.launch_ending import checked, with_ending
from evitif_ros.launch_parameter_file import CheckedParameterFile

RESPAWN_DELAY_S = 2.0       # Navigation2's


def description(arguments: Iterable[Argument], start: Callable[[LaunchContext], Iterable[Action]]) -> LaunchDescription:
    """A launch file: its arguments, and the actions that `start` returns, in a scope of their own as in a GroupAction."""
    return LaunchDescription([
        PushLaunchConfigurations(),
        *(argument.declaration() for argument in arguments),
        checked(start),
        PopLaunchConfigurations(),
    ])


def asked(context: LaunchContext, arguments: Iterable[Argument]) -> tuple[dict[str, object], CheckedParameterFile]:
    """What a launch file was asked for: the arguments' values and the params_file. Raises ValueError for the first that is wrong."""
    warn_of_unknown_arguments(context, arguments)
    values = read_arguments(context, arguments)
    return values, CheckedParameterFile(context, str(values['params_file']))


def given(values: Mapping[str, object], arguments: Iterable[Argument]) -> dict[str, object]:
    """Those of `values` that belong to these arguments."""
    return {argument.name: values[argument.name] for argument in arguments if argument.name in values}


def full_name(context: LaunchContext, namespace: str, name: str) -> str:
    """The full name of a node or topic in a namespace, which lies below the one that an including file has pushed."""
    above = make_namespace_absolute(prefix_namespace(context.launch_configurations.get('ros_namespace'), namespace))
    return f'{(above or "").rstrip("/")}/{name}'


def node(executable: str, name: str, values: Mapping[str, object], file: CheckedParameterFile, parameters: Mapping[str, object], *,
         namespace: str | None = None, remappings: Sequence[tuple[str, str]] = (), respawn_delay: float = RESPAWN_DELAY_S) -> list[Action]:
    """Start a node with `parameters`, which override the parameter file, and watch how it ends.

    `values` are those of navigation2_arguments; `autostart` and `use_sim_time` override the file if they are among them.
    """
    switches = {switch: values[switch] for switch in ('use_sim_time', 'autostart') if switch in values}
    respawn = values['use_respawn']
    action = Node(
        package='evitif', executable=executable, name=name, output='screen',
        namespace=values.get('namespace', '') if namespace is None else namespace,
        parameters=[file.file, parameter_values({**switches, **parameters})],
        remappings=list(remappings),
        arguments=['--ros-args', '--log-level', values['log_level']],
        respawn=respawn, respawn_delay=respawn_delay,
    )
    return with_ending(action, name, respawn)
