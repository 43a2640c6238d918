"""A real robot's video as bags: each format and each kind of topic gives the same frames and stamps. Without the data set it skips.

`SEVEN_SCENES_FRAMES=400 pytest test/recording/test_seven_scenes.py` takes all frames, in about 1 GB below the folder for temporary files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from evitif.recording import Recording
from evitif.recording.images import COMPRESSED, FFMPEG, FOXGLOVE, IMAGE

sys.path.insert(0, str(Path(__file__).parent))
from bags import FORMATS, TOPICS, stamp_of, write_bag

IMAGES = sorted((Path(__file__).parents[2] / 'data' / 'seven-scenes-kitchen' / 'images').glob('*.jpg'))
COUNT = int(os.environ.get('SEVEN_SCENES_FRAMES', '12'))
LOSS = {IMAGE: 0, COMPRESSED: 3, FFMPEG: 6, FOXGLOVE: 6}        # mean absolute difference of 8-bit samples

pytestmark = pytest.mark.skipif(not IMAGES, reason='7-Scenes is not in data/seven-scenes-kitchen')


@pytest.fixture(scope='module')
def pictures() -> list[np.ndarray]:
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in IMAGES[:COUNT]]


@pytest.mark.parametrize('format', FORMATS)
def test_a_real_video_is_the_same_by_each_format_and_topic(tmp_path, pictures, format):
    bag = write_bag(tmp_path / ('rover.bag' if format == 'ros1' else 'rover'), format, pictures, tuple(LOSS))
    for kind, loss in LOSS.items():
        with Recording.open(f'{bag}:{TOPICS[kind]}', say=lambda sentence: pytest.fail(sentence)) as recording:
            found = 0
            for index, image in enumerate(recording.images()):
                assert image.stamp_ns == stamp_of(index) and image.frame_id == 'camera'
                assert np.abs(image.image.astype(np.int16) - pictures[index]).mean() <= loss, (kind, index)
                found += 1
            assert found == len(pictures)
