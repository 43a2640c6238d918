"""What the memory learns from: a recording's own frames, and what a simulated camera films."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip('torch')
sys.path.insert(0, str(Path(__file__).parents[1] / 'recording'))
from bags import frames, write_bag

from evitif.datasets import DatasetError
from evitif_lab.training.sequences import BATCH, TIMES, Videos, recorded_videos
from evitif_lab.trials.images import Seen

CONFIG = {'input_size': (3, 16, 16), 'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5), 'interpolation': 'bilinear', 'crop_pct': 1.0}


def test_videos_of_a_recording_are_its_own_frames_of_the_part_that_trains(tmp_path):
    images, seen = frames(40), Seen(CONFIG)
    found = recorded_videos([str(write_bag(tmp_path / 'rover', 'mcap', images))], 5, CONFIG)
    assert found.shape == (5, len(TIMES), 3, 16, 16) and found.dtype == torch.uint8
    pictures = [torch.from_numpy(seen(image)).permute(2, 0, 1) for image in images]
    for video in found:
        first = next(index for index, picture in enumerate(pictures) if torch.equal(picture, video[0]))
        assert first + TIMES[-1] < 30       # the last fifth judges
        assert all(torch.equal(video[number], pictures[first + round(time)]) for number, time in enumerate(TIMES))


def test_a_recording_that_is_shorter_than_a_video_is_refused(tmp_path):
    with pytest.raises(DatasetError, match='expected at least 8 that follow one another'):
        recorded_videos([str(write_bag(tmp_path / 'rover', 'mcap', frames(6)))], 5, CONFIG)


def test_both_kinds_come_in_batches_of_their_own():
    stills, recorded = torch.zeros(BATCH + 1, 3, 24, 24, dtype=torch.uint8), torch.full((3, len(TIMES), 3, 16, 16), 7, dtype=torch.uint8)
    videos = Videos(stills, recorded)
    batches = list(videos.batches((16, 16), torch.Generator().manual_seed(0)))
    assert len(videos) == BATCH + 4 and [len(batch) for batch in batches] == [BATCH, 1, 3]
    assert all(batch.shape[1:] == recorded.shape[1:] and batch.dtype == torch.float32 for batch in batches)
    assert torch.equal(batches[-1], recorded.float())
