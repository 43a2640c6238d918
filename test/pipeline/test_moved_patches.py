"""The strategy `selection` without a light model: the robot sends the patches that moved, the bridge puts the picture together."""

import functools
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running_system import System, wait
from small_systems import write_pair, write_patch_code

from evitif.model.errors import ArtifactError
from evitif.pipeline import EdgeRuntime
from evitif.pipeline.moved_patches_bridge import MovedPatchesBridge
from evitif.pipeline.moved_patches_edge import MovedPatchesEdge
from evitif.pipeline.strategy import blank_frame
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.settings import bridge_settings, edge_settings
from evitif.vocabulary import How, RecoveryName


def scene(seed: int, shift: int = 0) -> np.ndarray:
    """A smooth picture uint8 [32, 32, 3], moved by some pixels."""
    coarse = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (48, 48), mode='bicubic').tanh()[0, :, 8:40, 4 + shift:36 + shift]
    return ((smooth + 1) * 127).byte().permute(1, 2, 0).numpy()


@pytest.fixture(scope='module')
def large(tmp_path_factory) -> str:
    _, large = write_pair(tmp_path_factory.mktemp('moved'))
    write_patch_code(large)
    return large


@pytest.fixture(scope='module')
def link(large) -> dict:
    return {'strategy': 'selection', 'model': large, 'unsealed': True, 'threads': 1}


class World:
    """Two robots and their bridge; what is lost is drawn."""

    def __init__(self, edges, bridge):
        self.edges, self.bridge, self.sessions = edges, bridge, [11, 12]
        self.seen: dict[tuple[int, int], np.ndarray] = {}       # session and place: the token that came last
        self.answers: deque = deque()
        for edge in edges:                                      # as after their start
            edge._coded._sent.clear()
            edge._coded._acknowledged = None

    def frame(self, robot: int, number: int, picture: np.ndarray, arrives: list[bool], loss: float, datagram_bytes: int = 0) -> None:
        edge, session, bridge = self.edges[robot], self.sessions[robot], self.bridge
        uplink = UplinkState(session_id=session, packet_error_rate=loss, name_bytes=0, datagram_bytes=datagram_bytes)
        observation = replace(edge.observe(picture, uplink), frame_id=number)
        coded = edge.encode(observation, uplink).coded
        parts = tuple(part for index, part in enumerate(coded.parts) if arrives[index % len(arrives)])
        if not parts:
            return
        frame = replace(blank_frame(bridge.streams[0], np.ones(16, bool)), session_id=session, frame_id=number,
                        capture_stamp_ns=number * 10**8, coded=replace(coded, parts=parts))
        try:
            (outcome,) = bridge.answer_batch([frame])
        except ValueError as error:         # nothing to answer from, and said so
            assert 'not known here' in str(error)
            return
        assert outcome.received.shape == (16,) and np.isfinite(outcome.scores).all()
        own = bridge._patches.embed(torch.from_numpy(bridge._code.reconstruct(edge._coded._sent[number].levels))[None])[0].detach()
        for place in np.flatnonzero(outcome.received):
            self.seen[session, int(place)] = own[1 + place].numpy()
        memory = bridge._memories.of(session)
        known = np.flatnonzero(torch.isfinite(memory._stamps[1:]))
        assert {*np.flatnonzero(outcome.received)} <= {*known}
        for place in known:                 # of this robot's session, and of the last frame that it came in
            np.testing.assert_allclose(memory._tokens[1 + place].numpy(), self.seen[session, int(place)], atol=1e-4)
        if outcome.remembered is not None:
            assert {*np.flatnonzero(outcome.remembered)} <= {*known} and outcome.memory_age_s > 0
            assert not (outcome.remembered & outcome.received).any()
        self.answers.append((robot, session, number, outcome.received))

    def restart(self, robot: int, forget: bool) -> None:
        if forget:
            self.bridge.forget(self.sessions[robot])
        self.sessions[robot] += 2


@pytest.fixture(scope='module')
def halves(link):
    return [MovedPatchesEdge(edge_settings(**link)) for _ in range(2)], MovedPatchesBridge(bridge_settings(**link))


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, 10**6))
def test_the_bridge_never_has_a_patch_of_another_frame_or_robot(halves, data, seed):
    world, number, shown = World(*halves), 1, [seed, seed + 1]
    for session in range(40):
        world.bridge.forget(session)
    for _ in range(25):
        robot = data.draw(st.integers(0, 1))
        match data.draw(st.sampled_from(['frame'] * 8 + ['answer'] * 6 + ['restart', 'roam', 'cut'])):
            case 'frame':
                world.frame(robot, number, scene(shown[robot], number % 9), data.draw(st.lists(st.booleans(), min_size=1, max_size=5)),
                            data.draw(st.sampled_from([0.0, 0.3, 0.6])))
                number += 1
            case 'answer' if world.answers:         # any, late or again
                robot, session, frame_id, received = world.answers[data.draw(st.integers(0, 30)) % len(world.answers)]
                world.edges[robot].acknowledge(session, frame_id, received)
            case 'restart' | 'roam' as how:
                world.restart(robot, how == 'restart')
            case 'cut':
                shown[robot] += 2


@pytest.mark.parametrize('loss', [0.0, 0.3])
def test_a_robot_without_a_model_is_answered_and_a_scene_that_stands_takes_next_to_nothing(link, loss):
    with System({**link, 'answer_deadline': 2.0}, bridge=link, loss=loss) as system:
        system.connected()
        for index in range(1, 13):
            system.edge.submit(scene(3), index * 10**8)
            wait(functools.partial(system.ended, index))
        statistics = system.edge.statistics()
        (_, off_board) = system.bridge.statistics().links.popitem()
    answered = [prediction for prediction in system.robot if prediction.how == How.OFF_BOARD]
    assert len(answered) >= 8 and {prediction.strategy for prediction in system.robot} == {'selection'}
    assert (statistics.quantisation, statistics.frames_local) == ('coded', 0)
    first, last = answered[0], answered[-1]
    assert first.grid == (4, 4) and first.prefix_tokens == 0 and first.sent.all() and len(first.received) == 16
    assert last.uplink_bytes / last.packets_sent < 150 < first.uplink_bytes
    assert len({prediction.class_ids[0] for prediction in answered}) == 1 or loss
    lost = statistics.tokens_remembered + statistics.tokens_estimated
    assert (lost == 0) == (statistics.tokens_received == 16 * len(answered)) == (not loss or lost == 0)
    assert off_board.tokens['received'] > 0


def encoded(edge, picture, number=1, **uplink):
    state = UplinkState(session_id=5, **uplink)
    return edge.encode(replace(edge.observe(picture, state), frame_id=number), state).coded


def test_what_moved_is_sent_and_a_little_noise_is_not(link):
    edge = MovedPatchesEdge(edge_settings(**link))
    first, half = scene(1), scene(1)
    size = sum(len(part.payload) for part in encoded(edge, first).parts)
    edge.acknowledge(5, 1, np.ones(16, bool))
    noisy = (first + np.random.default_rng(0).normal(0, 1.0, first.shape)).clip(0, 255).astype(np.uint8)
    half[:, 16:] = scene(2)[:, 16:]
    sizes = []
    for number, picture in ((2, noisy), (3, half), (4, scene(2))):
        coded = encoded(edge, picture, number)
        assert coded.reference == 1
        sizes.append(sum(len(part.payload) for part in coded.parts))
    assert sizes[0] < 0.25 * size and sizes[0] < sizes[1] < 0.75 * sizes[2] and sizes[2] < 1.2 * size


def test_a_frame_keeps_within_what_the_link_carries(link):
    edge = MovedPatchesEdge(edge_settings(**link))
    free, tight = (encoded(edge, scene(4), number, frame_bytes=room) for number, room in ((1, float('inf')), (2, 320.0)))
    assert tight.step > free.step
    assert sum(len(part.payload) + 100 for part in tight.parts) <= 320


def test_a_new_scene_is_not_filled_in_from_the_former_one(halves, link):
    world = World(*halves)
    world.sessions = [301, 302]
    for number in range(1, 5):
        world.frame(0, number, scene(7), [True], 0.6)
        world.edges[0].acknowledge(*world.answers[-1][1:])
    world.frame(0, 5, scene(7), [True, False], 0.6)
    few = world.answers[-1][3]
    world.frame(0, 6, 255 - scene(7), [True, False], 0.0, datagram_bytes=300)        # several packets, each patch in one of them
    assert few.any() and torch.isfinite(halves[1]._memories.of(301)._stamps[1:]).sum() == world.answers[-1][3].sum() < 16


def test_next_to_nothing_is_answered_from_memory_with_its_age(halves):
    edges, bridge = halves
    world = World(*halves)
    world.sessions = [401, 402]
    world.frame(0, 1, scene(8), [True], 0.0)
    stream = bridge.streams[0]
    coded = encoded(edges[0], scene(8), 2)
    unknown = replace(blank_frame(stream, np.ones(16, bool)), session_id=401, frame_id=9, capture_stamp_ns=3 * 10**8,
                      coded=replace(coded, reference=777))
    (outcome,) = bridge.answer_batch([unknown])
    assert outcome.recovery == RecoveryName.MEMORY and not outcome.received.any() and outcome.memory_age_s == pytest.approx(0.2)
    with pytest.raises(ValueError, match='not known here'):
        bridge.answer_batch([replace(unknown, session_id=999)])


def test_what_is_missing_or_different_is_said(link, tmp_path):
    light, bare = write_pair(tmp_path)
    with pytest.raises(ArtifactError, match=r'no code for its patches \(pixels-entropy-cut0.json\): fit one with `evitif train code'):
        EdgeRuntime(edge_settings(**{**link, 'model': bare}), on_prediction=print)
    with System({**link, 'model': bare, 'light_model': light}, bridge=link) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        assert 'light: the edge has ' in system.edge.statistics().reason
    halves = MovedPatchesBridge(bridge_settings(**link))
    with pytest.raises(ValueError, match='its patches are rows'):
        halves.answer_batch([blank_frame(halves.streams[0], np.ones(16, bool))])


def test_the_picture_may_have_another_size_and_be_seen_whole(link):
    view = {'image_size': '24x48', 'fit': 'squash'}
    with System({**link, **view}, bridge={**link, **view}) as system:
        system.connected()
        system.edge.submit(np.concatenate([scene(1), scene(2)], 1), 1)
        wait(lambda: system.robot)
    (answer,) = system.robot
    assert answer.grid == (3, 6) and answer.received.all() and answer.crop == (0, 0, 64, 32)
