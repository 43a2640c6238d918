"""`camera_info` beside the images: calibrations as camera_calibration writes them, and none."""

from __future__ import annotations

import pytest

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed')

from std_msgs.msg import Header

from evitif_edge_node.camera_info import CameraInfoError, camera_info, camera_info_topic, load_calibration
from evitif_edge_node.parameters import CAMERA_PARAMETERS

CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [500, 0, 320.5, 0, 501.25, 240.5, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.3, 0.1, 0.001, -0.002, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [480, 0, 322, 0, 0, 490, 241, 0, 0, 0, 1, 0]
"""


@pytest.fixture
def url(tmp_path):
    (tmp_path / 'camera.yaml').write_text(CALIBRATION)
    return f'file://{tmp_path}/camera.yaml'


def test_a_calibration_is_read_as_camera_calibration_writes_it(url):
    info = load_calibration(url, 'camera')
    assert (info.width, info.height, info.distortion_model) == (640, 480, 'plumb_bob')
    assert list(info.k) == [500, 0, 320.5, 0, 501.25, 240.5, 0, 0, 1] and list(info.d) == [-0.3, 0.1, 0.001, -0.002, 0]
    assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1] and list(info.p)[:3] == [480, 0, 322]


def test_the_url_may_name_a_package_and_the_camera(url, tmp_path, monkeypatch):
    monkeypatch.setattr('evitif_edge_node.camera_info.get_package_share_directory', {'mine': str(tmp_path)}.get)
    assert load_calibration('package://mine/camera.yaml', 'x').width == 640
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    assert load_calibration('file://${ROS_HOME}/${NAME}.yaml', 'camera').width == 640


def test_the_message_has_the_images_header_and_size(url):
    header = Header(frame_id='lens')
    info = camera_info(load_calibration(url, 'camera'), header, 640, 480)
    assert (info.header, info.width, info.height, info.k[0]) == (header, 640, 480, 500.0)


@pytest.mark.parametrize('size', [(320, 240), (640, 481)])
def test_images_of_another_size_than_the_calibration_s_are_uncalibrated(url, size):
    info = camera_info(load_calibration(url, 'camera'), Header(), *size)
    assert (info.width, info.height) == size and not any(info.k) and not any(info.p) and not len(info.d)


def test_without_a_calibration_all_is_zero():
    assert load_calibration('', 'camera') is None
    info = camera_info(None, Header(), 28, 30)
    assert (info.width, info.height) == (28, 30) and not any(info.k)        # as the message's own comments say it


@pytest.mark.parametrize(('change', 'words'), [
    (lambda text: text.replace('320.5, 0, ', ''), ['camera_matrix', '9 numbers']), (lambda text: 'just text', ["'just text'"]),
    (lambda text: text.replace('projection_matrix', 'p'), ['projection_matrix missing']), (lambda text: '{', ['cannot be read']),
    (lambda text: text.replace('640', '-1'), ['-1 and 480']), (lambda text: text.replace('640', 'wide'), ["'wide'"]),
    (lambda text: text.replace('data: [500', 'data: [x'), ["'x'"])])
def test_a_file_that_is_none_is_refused_in_a_sentence(url, tmp_path, change, words):
    (tmp_path / 'camera.yaml').write_text(change(CALIBRATION))
    with pytest.raises(CameraInfoError) as refused:
        load_calibration(url, 'camera')
    assert all(word in str(refused.value) for word in [url, 'expected file:///', *words]) and '\n' not in str(refused.value)


@pytest.mark.parametrize('url', ['camera.yaml', '/camera.yaml', 'file://camera.yaml', 'http://host/camera.yaml', 'package://mine',
                                 'package://no_such_package_at_all/camera.yaml', 'file:///no/such/file.yaml', 'file:///'])
def test_a_url_that_leads_nowhere_is_refused_in_a_sentence(url):
    with pytest.raises(CameraInfoError) as refused:
        load_calibration(url, 'camera')
    assert repr(url) in str(refused.value) and 'expected file:///' in str(refused.value)


def test_the_frame_is_an_optical_one():
    assert next(parameter.default for parameter in CAMERA_PARAMETERS if parameter.name == 'frame_id').endswith('_optical_frame')


@pytest.mark.parametrize(('remapping', 'topic'), [
    ([], '/robot/camera_info'), (['image:=/front/image_raw'], '/front/camera_info'), (['image:=front/image'], '/robot/front/camera_info'),
    (['image:=/front/image_raw', 'camera_info:=/mine'], '/mine')])
def test_camera_info_is_where_image_transport_looks_for_it(remapping, topic):
    rclpy = pytest.importorskip('rclpy')
    context = rclpy.Context()
    rclpy.init(context=context)
    arguments = ['--ros-args', *(part for rule in remapping for part in ('-r', rule))]
    node = rclpy.create_node('camera', namespace='/robot', context=context, cli_args=arguments, use_global_arguments=False,
                             start_parameter_services=False, enable_rosout=False)
    try:
        assert camera_info_topic(node) == topic
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
