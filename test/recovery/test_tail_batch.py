"""Frames of several robots are answered together as each would have been alone, whatever each of them has lost."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from evitif.pipeline import BridgeRuntime
from evitif.pipeline.split_bridge import SplitBridge
from evitif.protocol.events import FrameReady
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.rate.statistics import LinkStatistics
from evitif.recovery import METHODS
from evitif.settings import bridge_settings
from evitif_lab.baselines import LEARNED

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1}


def frames_of(pipeline: SplitBridge, losses: list[float]) -> list[ReceivedFrame]:
    random = np.random.default_rng(3)
    parameters, quantiser = pipeline.model.parameters, pipeline.model.quantiser
    frames = []
    for number, loss in enumerate(losses):
        rows = quantiser.quantise(random.standard_normal((parameters.tokens, parameters.channels)).astype(np.float32))
        received = random.random(parameters.units) >= loss
        received[0] = loss < 1
        rows[~received] = 0
        frames.append(ReceivedFrame(
            session_id=number, robot=f'robot {number}', frame_id=number, capture_stamp_ns=number, source_frame='', rows=rows,
            received=received, packets_received=20, packets_expected=24, bytes_received=9000, packet_error_rate=loss,
            first_arrival=0.0, ready_at=0.0, complete=bool(received.all()), quantisation=parameters.quantisation,
            units_sent=parameters.units))
    return frames


@pytest.mark.parametrize('name', [*METHODS, *LEARNED])
def test_answers_together_are_the_answers_alone(folder, train, name):
    if name in LEARNED:
        train(name)
    pipeline = SplitBridge(bridge_settings(model=str(folder), cut=1, recovery=name))
    frames = frames_of(pipeline, [0.0, 0.5, 0.0, 0.2, 0.9, 0.5, 1.0])
    alone = [pipeline.answer_batch([frame])[0] for frame in frames]
    assert len({answer.scores for answer in alone}) == len(frames)         # else an exchanged answer would not be seen
    for one, other in zip(pipeline.answer_batch(frames), alone, strict=True):
        assert one.recovery == other.recovery and (one.received == other.received).all()
        assert one.class_ids == other.class_ids
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_the_batch_is_the_smallest_of_the_fastest_sizes_that_are_short_enough(monkeypatch):
    pipeline = SplitBridge(bridge_settings(**MODEL))
    seconds = {1: 0.010, 2: 0.012, 4: 0.020, 8: 0.0395, 10: 0.060}
    monkeypatch.setattr('evitif.pipeline.split_bridge.timeit.repeat', lambda run, **_: [seconds[run()]])
    pipeline.answer_batch = len
    assert [pipeline.warm_up(limit) for limit in (1, 2, 4, 8, 10)] == [1, 2, 4, 4, 4]
    seconds.update({8: 0.030, 10: 0.020})
    assert [pipeline.warm_up(limit) for limit in (8, 10)] == [8, 10]
    seconds[1] = 3.0                                                        # a slow model answers one by one
    seconds[2] = 0.051
    assert pipeline.warm_up(10) == 1


def test_a_frame_that_cannot_be_answered_does_not_take_those_beside_it_along():
    answered, log = [], []
    bridge = BridgeRuntime(bridge_settings(**MODEL, unsealed=True), on_prediction=lambda robot, _: answered.append(robot),
                           log=lambda level, text: log.append(text))
    frames = frames_of(bridge._strategy, [0.0, 0.0, 0.3])
    broken = ReceivedFrame(**{**vars(frames[1]), 'rows': frames[1].rows[:, :-1]})
    answers = bridge._answers([(frames[0],), (broken,), (frames[2],)])
    assert [said[0][0].frame_id for _, said in answers] == [0, 2]
    assert sum('frame 1 of robot robot 1 failed' in text for text in log) == 1
    assert bridge._counts['frames_failed'] == 1


def test_what_became_of_a_robots_frames_is_in_its_link(monkeypatch):
    bridge = BridgeRuntime(bridge_settings(**MODEL, unsealed=True, bind_host='127.0.0.1', port=0), on_prediction=lambda *_: None,
                           log=lambda *_: None)
    frames = [replace(frame, session_id=7) for frame in frames_of(bridge._strategy, [0.0, 0.0, 0.0])]
    bridge._loop.start()
    try:
        monkeypatch.setattr(type(bridge._endpoint), 'sessions', {7: SimpleNamespace(robot='rover', frames=Counter)})
        monkeypatch.setattr(bridge._endpoint, 'statistics_of', lambda session_id: LinkStatistics(frames={'complete': 3}))
        for frame in frames:
            bridge._handle(FrameReady(frame))
        bridge._fail((frames[2],), ValueError('no'))
        assert bridge.statistics().links['rover'].frames == {'complete': 3, 'replaced': 2, 'failed': 1}
    finally:
        bridge._loop.stop()
