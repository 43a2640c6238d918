"""The launch files start what they say, and frames are answered with dropped packets; run by launch_pytest."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

launch_pytest = pytest.importorskip(
    'launch_pytest', reason='launch_pytest is not installed (a ROS 2 distribution has it); launch files are not run')

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource

try:
    get_package_prefix('evitif')
except PackageNotFoundError:
    pytest.skip('the package evitif is not built: colcon build, and source install/setup.sh', allow_module_level=True)

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from benchmarks.images import default_environment
from evitif_msgs.msg import LinkStats, Prediction

SHIPPED_MODEL = Path(__file__).resolve().parents[2] / 'artifacts' / 'fashion_mnist' / 'model.json'
FRAMES = 40
RATE = 10.0
START_S = 180.0     # two processes import PyTorch and build the model; some 10 s where nothing else runs


class Exits(dict):
    """Exit codes by the name of the executable, as processes end."""

    def handler(self):
        return RegisterEventHandler(OnProcessExit(on_exit=self._note))

    def _note(self, event, context):
        self[event.process_name.rpartition('-')[0]] = event.returncode


@pytest.fixture
def exits():
    return Exits()


def included(launch_folder, name, **arguments):
    texts = [(key, str(value)) for key, value in arguments.items()]
    source = PythonLaunchDescriptionSource(str(launch_folder / f'{name}.launch.py'))
    return IncludeLaunchDescription(source, launch_arguments=texts)


@launch_pytest.fixture
def lossy_demo(request, ros_domain, launch_folder, parameter_file, image_folder, free_ports, exits):
    return LaunchDescription([
        exits.handler(),
        included(
            launch_folder, 'demo', params_file=parameter_file, source=image_folder, rate=RATE, loss=request.param,
            bridge_port=free_ports[0], link_port=free_ports[1], robot_name='tortoise',
        ),
        launch_pytest.actions.ReadyToTest(),
    ])


def complaint(on_robot, off_board, statistics, loss):
    """What is not yet as it should be with the newest frames that were seen on both sides; '' where all is."""
    seen = {message.sequence for message in off_board}
    newest = [message for message in on_robot if message.sequence in seen][-FRAMES:]
    if len(newest) < FRAMES or not statistics:
        return f'{len(on_robot)} predictions on /prediction, {len(off_board)} off-board, {len(statistics)} link_stats'
    span = newest[-1].sequence - newest[0].sequence + 1
    if len(newest) < 0.95 * span:
        return f'{len(newest)} of {span} frames were answered'
    lost = 1 - sum(message.packets_received for message in newest) / sum(message.packets_sent for message in newest)
    if abs(lost - loss) > 0.1:
        return f'{lost:.2f} of the packets were lost'
    whole = [message.tokens_received == 65 for message in newest]
    if all(whole) if loss else not all(whole):
        return f'{sum(whole)} of {FRAMES} frames came whole'
    link = statistics[-1]
    if link.state != 'connected' or not link.connected or link.frames_answered < 0.95 * FRAMES:
        return f'{link.state}, {link.frames_answered} frames answered'
    if any(abs(rate - loss) > 0.2 for rate in (link.uplink_packet_error_rate, link.downlink_packet_error_rate)):
        return f'packet error rates {link.uplink_packet_error_rate:.2f} up, {link.downlink_packet_error_rate:.2f} down'
    return ''


def check_answers(listener, loss):
    """Predictions arrive on both sides, and the loss is seen in them and in the link's statistics."""
    on_robot = listener.listen(Prediction, '/prediction')
    off_board = listener.listen(Prediction, '/bridge/tortoise/prediction')
    statistics = listener.listen(LinkStats, '/link_stats')
    # A busy machine may spoil some frames, so that one run of frames as they should be is waited for.
    listener.wait_until(lambda: not complaint(on_robot, off_board, statistics, loss), START_S,
                        lambda: complaint(on_robot, off_board, statistics, loss))
    for message in on_robot:
        if message.how == Prediction.HOW_MEMORY:        # the robot repeats its last answer where its own is overdue
            continue
        assert message.strategy == 'split' and message.robot == 'tortoise'
        assert message.tokens_sent == 65 and message.tokens_received <= 65
        # Without a PALDN the last known tokens stand in; a first frame has none.
        assert message.recovery in (('none',) if message.tokens_received == 65 else ('memory', 'omission'))
        assert len(message.labels) == len(message.class_ids) == len(message.scores) > 0


@pytest.mark.parametrize('lossy_demo', [0.0, 0.3, 0.6], indirect=True)
@pytest.mark.launch(fixture=lossy_demo)
def test_the_demo_answers_frames_over_a_lossy_link(request, lossy_demo, listener, exits):
    check_answers(listener, request.node.callspec.params['lossy_demo'])
    assert exits == {}, 'a node ended by itself'
    yield       # what follows runs after the launch has been shut down
    assert exits == dict.fromkeys(['camera_node', 'edge_node', 'link_simulator_node', 'bridge_node'], 0)


@launch_pytest.fixture
def unconfigured_demo(ros_domain, launch_folder, parameter_file, image_folder, free_ports):
    return LaunchDescription([
        included(
            launch_folder, 'demo', params_file=parameter_file, source=image_folder, autostart='false',
            bridge_port=free_ports[0], link_port=free_ports[1],
        ),
        launch_pytest.actions.ReadyToTest(),
    ])


@pytest.mark.launch(fixture=unconfigured_demo)
def test_without_autostart_the_nodes_wait_for_a_lifecycle_manager(unconfigured_demo, listener):
    for node in ('/camera', '/edge_node', '/bridge/link_simulator', '/bridge/bridge_node'):
        answer = listener.ask(GetState, f'{node}/get_state', START_S)
        assert answer.current_state.id == State.PRIMARY_STATE_UNCONFIGURED, node


@launch_pytest.fixture
def two_sides(ros_domain, launch_folder, image_folder, free_ports):
    """Edge and bridge by their own launch and parameter files, and a camera whose topic has another name."""
    from launch_ros.actions import Node
    model = {'model': 'vit_tiny_patch16_224', 'random_seed': 7, 'unsealed': 'true'}
    return LaunchDescription([
        included(launch_folder, 'bridge', namespace='server', port=free_ports[0], **model),
        included(
            launch_folder, 'edge', namespace='hare', robot_name='hare', bridge_host='localhost',
            bridge_port=free_ports[0], image='/front/pictures', **model,
        ),
        Node(
            package='evitif', executable='camera_node', namespace='front',
            parameters=[{'source': str(image_folder), 'rate': RATE}], remappings=[('image', 'pictures')],
        ),
        launch_pytest.actions.ReadyToTest(),
    ])


@pytest.mark.launch(fixture=two_sides)
def test_edge_and_bridge_meet_by_their_own_launch_files(two_sides, listener):
    on_robot = listener.listen(Prediction, '/hare/prediction')
    off_board = listener.listen(Prediction, '/server/hare/prediction')
    listener.wait_until(
        lambda: len(on_robot) >= 5 and len(off_board) >= 5, START_S,
        lambda: f'{len(on_robot)} predictions on the robot, {len(off_board)} off-board')


@pytest.fixture
def ros_home(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_HOME', str(tmp_path / 'ros'))
    return tmp_path / 'ros'


@launch_pytest.fixture
def shipped_demo(ros_domain, ros_home, launch_folder, image_folder, free_ports):
    """The demo with its own parameter file and the model that ships, as a user starts it; only the pictures differ."""
    return LaunchDescription([
        included(launch_folder, 'demo', source=image_folder, bridge_port=free_ports[0], link_port=free_ports[1]),
        launch_pytest.actions.ReadyToTest(),
    ])


@pytest.mark.skipif(not SHIPPED_MODEL.exists(), reason='the model artifacts/fashion_mnist is not there')
@pytest.mark.launch(fixture=shipped_demo)
def test_the_demo_runs_as_it_ships(shipped_demo, ros_home, listener):
    on_robot = listener.listen(Prediction, '/prediction')
    listener.wait_until(lambda: len(on_robot) >= 20, START_S, lambda: f'{len(on_robot)} predictions on /prediction')
    assert all(message.recovery == 'paldn' for message in on_robot if message.tokens_received < message.tokens_sent)
    assert on_robot[-1].packet_error_rate == pytest.approx(0.6, abs=0.15)
    assert (ros_home / 'evitif_demo.key').stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(shutil.which('ros2') is None, reason='the command ros2 is not installed (a ROS 2 distribution has it)')
@pytest.mark.skipif(not SHIPPED_MODEL.exists(), reason='the model artifacts/fashion_mnist is not there')
@pytest.mark.launch(fixture=shipped_demo)
def test_a_fresh_shell_sees_what_was_launched(shipped_demo, ros_domain, listener):
    """The README's commands, in the environment that ROS comes with."""
    on_robot = listener.listen(Prediction, '/prediction')
    listener.wait_until(lambda: on_robot, START_S, lambda: 'no prediction on /prediction')
    environment = default_environment(ROS_DOMAIN_ID=str(ros_domain))

    def ros2(*command):
        # A daemon would be left running; without it the command itself has to discover the nodes.
        done = subprocess.run(['ros2', *command, '--no-daemon', '--spin-time', '10'], env=environment, capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert {'/prediction', '/link_stats', '/bridge/robot/prediction'} <= set(ros2('topic', 'list').split())
    if importlib.util.find_spec('rosidl_runtime_py'):       # a distribution has it; `topic echo` needs it
        assert 'class_ids' in ros2('topic', 'echo', '/prediction', '--once')
    assert {'/camera', '/edge_node', '/bridge/bridge_node', '/bridge/link_simulator'} <= set(ros2('node', 'list').split())
