"""The conversion gives what cv_bridge gives, where a ROS 2 distribution has cv_bridge."""

import numpy as np
import pytest

cv_bridge = pytest.importorskip('cv_bridge', reason='cv_bridge is not installed; a ROS 2 distribution has it')
messages = pytest.importorskip('sensor_msgs.msg')

from evitif.pictures.ros_images import image_to_rgb


@pytest.mark.parametrize(('encoding', 'channels'), [('rgb8', 3), ('bgr8', 3), ('rgba8', 4), ('bgra8', 4), ('mono8', 1), ('bayer_rggb8', 1)])
def test_the_same_picture_as_cv_bridge(encoding, channels):
    height, width, padding = 6, 8, 4
    rows = np.random.default_rng(0).integers(0, 256, (height, width * channels + padding), np.uint8)
    message = messages.Image(encoding=encoding, height=height, width=width, step=rows.shape[1], data=rows.tobytes())

    np.testing.assert_array_equal(image_to_rgb(message), cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8'))
