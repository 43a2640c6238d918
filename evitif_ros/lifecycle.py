"""A lifecycle node that activates itself, says why it could not, and ends cleanly."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from evitif_ros import fast_dds, parameters, qos
from evitif_ros.arguments import argument_sentence, refuse_other_arguments, refuse_remapped_parameters
from evitif_ros.log import LogForwarder
from evitif_ros.parameters import AUTOSTART, ParameterTable

# A user can put these right (a wrong value, a missing file, a port in use) and gets a sentence; anything else is a bug.
USER_ERRORS = (ValueError, OSError, ImportError)
EXIT_FAILED, EXIT_BAD_PARAMETER = 1, 2
SIGNAL_LATENCY_S = 0.2  # Python sees a signal only between waits for ROS events


class AutostartNode(LifecycleNode):
    """Declares a parameter table and guards the transitions.

    rclpy silently drops an exception raised in a transition; here it is logged and the transition fails.
    Subclasses override `configure`, `activate`, `deactivate` and `cleanup`, which raise where they cannot go on;
    `cleanup` has to cope with a node that was configured only in part.
    """

    default_name = 'node'
    table: ParameterTable = ()
    publishes_images = False    # if so, `run` makes sure that they reach other processes

    def __init__(self, **kwargs):
        try:
            super().__init__(self.default_name, **kwargs)
        except InvalidParameterTypeException:
            parameters.require_accepted(parameters.ROS_PARAMETERS, parameters.overrides_of(self))
            raise
        self._configured = False
        self.exit_code = 0
        self._finished = False
        self._advertised: list = []
        table, overrides = (*self.table, AUTOSTART), parameters.overrides_of(self)
        try:
            parameters.declare(self, table)
            sentences = parameters.misspelled(table, overrides) + qos.check_overrides(overrides, self._endpoints())
        except ValueError:
            self.destroy_node()
            raise
        self.add_on_set_parameters_callback(self._on_set_parameters)
        for sentence in sentences:
            self.get_logger().warning(sentence)

    def publishes(self) -> tuple[str, ...]:
        """The topics of the publishers whose QoS can be overridden, as they are before remapping; `*` stands for any one name."""
        return ()

    def subscribes(self) -> tuple[str, ...]:
        """As `publishes`, of the subscriptions."""
        return ()

    def configure(self) -> None:
        """Load what the node needs, and create its publishers."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop working."""

    def cleanup(self) -> None:
        """Undo `configure`."""

    def parameters_changed(self, values: dict[str, object]) -> str | None:
        """Take over values set at run time; return why they are refused, or None."""

    def values(self) -> dict[str, bool | int | float | str]:
        """The parameters' present values by name."""
        return parameters.read(self, (*self.table, AUTOSTART))

    def advertise(self, kind: type, topic: str, profile: QoSProfile, *, shown: bool = False) -> Any:
        """Create a publisher that is silent while the node is inactive. Parameters may override its QoS, see `qos.overridable`."""
        self._advertised.append(self.create_lifecycle_publisher(
            kind, topic, **qos.overridable(self, qos.PUBLISHER, topic, profile, shown=shown)))
        return self._advertised[-1]

    def withdraw(self) -> None:
        """Destroy what was advertised."""
        for publisher in self._advertised:
            self.destroy_lifecycle_publisher(publisher)
        self._advertised = []

    def start(self) -> bool:
        """Configure and activate; False where a transition failed (what was wrong has been logged)."""
        return (self.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    def finish(self, exit_code: int = 0) -> None:
        """Let `run` return this exit code after the present callback."""
        self.exit_code, self._finished = exit_code, True
        if self.executor is not None:
            self.executor.wake()

    @property
    def finished(self) -> bool:
        """Whether `finish` was called."""
        return self._finished

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: D102 - rclpy's
        done = self._guarded('configure', self.configure)
        if done is TransitionCallbackReturn.SUCCESS:
            self._configured = True
            return super().on_configure(state)
        self._guarded('clean up after a failed configuration', self.cleanup)
        return done

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: D102 - rclpy's
        super().on_activate(state)
        done = self._guarded('activate', self.activate)
        if done is not TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
            self._guarded('undo a failed activation', self.deactivate)
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: D102 - rclpy's
        super().on_deactivate(state)
        return self._guarded('deactivate', self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: D102 - rclpy's
        self._configured = False
        super().on_cleanup(state)
        return self._guarded('clean up', self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: D102 - rclpy's
        self.stop()
        return super().on_shutdown(state)

    def stop(self) -> None:
        """Deactivate and clean up whatever state the node is in; needs no valid ROS context."""
        self._guarded('deactivate', self.deactivate)
        self._guarded('clean up', self.cleanup)
        self._configured = False

    def _guarded(self, verb: str, step: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            step()
            return TransitionCallbackReturn.SUCCESS
        except USER_ERRORS as error:
            self.get_logger().error(f'cannot {verb}: {error}')
        except Exception:  # noqa: BLE001 - rclpy would drop it without a word
            self.get_logger().error(f'cannot {verb}, by a fault of the program:\n{traceback.format_exc()}')
        return TransitionCallbackReturn.FAILURE

    def _endpoints(self) -> list[qos.Endpoint]:
        topics = {qos.PUBLISHER: self.publishes(), qos.SUBSCRIPTION: self.subscribes()}
        return [(self._full_name(topic), kind) for kind in topics for topic in topics[kind]]

    def _full_name(self, topic: str) -> str:
        return f'{self.get_namespace().rstrip("/")}/{topic}' if '*' in topic else self.resolve_topic_name(topic)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set what is changed. Refusals come before rclpy's own, which do not name the value."""
        changed = parameters.changes(self, self.table, parameter_list)
        reason = parameters.first_refusal((*self.table, AUTOSTART, *parameters.ROS_PARAMETERS),
                                          {parameter.name: parameter.value for parameter in changed}, self._configured)
        if reason is not None:
            return SetParametersResult(successful=False, reason=reason)
        return super().set_parameters_atomically(changed) if changed else SetParametersResult(successful=True)

    def _on_set_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        own = {parameter.name for parameter in self.table}
        values = {parameter.name: parameter.value for parameter in changed if parameter.name in own}
        reason = self.parameters_changed(values) if values and self._configured else None
        return SetParametersResult(successful=reason is None, reason=reason or '')


def run(node_class: type[AutostartNode], arguments: list[str] | None = None) -> NoReturn:
    """Run a node until SIGINT, SIGTERM or its `finish`, and end the process. Errors go to stderr in one sentence."""
    _end(_run(node_class, arguments))


def _end(exit_code: int) -> NoReturn:
    # Taking PyTorch apart module by module takes the interpreter 2 s after everything is closed already.
    atexit._run_exitfuncs()  # noqa: SLF001 - no public function does it
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _run(node_class: type[AutostartNode], arguments: list[str] | None) -> int:
    node = executor = forwarder = None
    try:
        # rclpy's own handlers end the ROS context at once; the node needs it to say goodbye.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            warning = fast_dds.take_profile() if node_class.publishes_images else ''
            node = _start(node_class, sys.argv[1:] if arguments is None else arguments)
        except USER_ERRORS as error:
            print(f'{node_class.default_name}: {error}', file=sys.stderr)
            _end(EXIT_BAD_PARAMETER)      # at once: taking a half-built node apart sometimes crashes in rclpy
        forwarder = LogForwarder(node)
        if warning:
            node.get_logger().warning(warning)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if node.values()['autostart'] and not node.start():
            return EXIT_FAILED
        while rclpy.ok() and not node.finished:
            executor.spin_once(timeout_sec=SIGNAL_LATENCY_S)
        return node.exit_code
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0  # SIGINT, SIGTERM: how a node is meant to end
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # Ctrl-C under `ros2 launch` comes twice
        if node is not None:
            node.stop()
        if executor is not None:
            executor.shutdown(timeout_sec=0.5)
        if forwarder is not None:
            forwarder.remove()
            node.destroy_node()
        rclpy.try_shutdown()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _start(node_class: type[AutostartNode], arguments: list[str]) -> AutostartNode:
    """The node, built. Raises one of USER_ERRORS for what a user can put right."""
    refuse_remapped_parameters(arguments, [parameter.name for parameter in node_class.table])
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        raise ValueError(argument_sentence(error)) from error
    refuse_other_arguments(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)     # of rclpy, beside the exception
        try:
            return node_class()
        except Exception as error:
            if not isinstance(error, (NameValidationException, ParameterException)) and not type(error).__name__.startswith('RCL'):
                raise
            raise ValueError(argument_sentence(error)) from error
