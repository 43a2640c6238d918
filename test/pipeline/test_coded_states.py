"""What the bridge reads of coded frames is what the edge believes that it has, whatever is lost, late, repeated or begun anew."""

import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.model.entropy_tables import STEPS
from evitif.pipeline.coded_choice import CodedChoice, Patches, losses_of
from evitif.pipeline.coded_edge import CodedEdge
from evitif.pipeline.coded_states import STATES, CodedStates
from evitif.pipeline.coded_table import CodedTable
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.coded_frame import tokens_of
from evitif.protocol.wire.coded import CodedPart
from evitif.protocol.wire.parameters import StreamParameters
from evitif_lab.training.entropy_code import fit_entropy_code

GRID, CHANNELS = (4, 5), 8
PARAMETERS = StreamParameters(model='small', fingerprint='cd' * 32, cut=1, quantisation='int8', image_size=(28, 28), tokens=21,
                              prefix_tokens=1, grid=GRID, channels=CHANNELS, groups=1, row_bytes=12, classes=10, entropy_code='ef' * 32)
TABLE = CodedTable({'6': 0.0, '12': 0.001, '18': 0.05}, {'6': 200.0, '12': 100.0, '18': 40.0}, ((0.0, 0.0), (0.5, 0.05), (1.0, 0.8)))


def video(seed: int, frames: int) -> np.ndarray:
    """Tokens float32 [frames, N, D] that move a little, now and then all of them."""
    generator = np.random.default_rng(seed)
    tokens = generator.normal(size=(1, 21, CHANNELS)) + np.cumsum(0.1 * generator.normal(size=(frames, 21, CHANNELS)), 0)
    cut = generator.integers(1, frames + 1)
    tokens[cut:] += generator.normal(size=(1, 21, CHANNELS))
    return tokens.astype(np.float32)


@pytest.fixture(scope='module')
def code():
    still = torch.from_numpy(video(1, 60))
    moving = torch.from_numpy(np.stack([video(seed, 3) for seed in range(2, 30)]))
    return fit_entropy_code(still, 1, GRID, torch.eye(CHANNELS, dtype=torch.float64).repeat(2, 1, 1) * 0.01,
                            torch.eye(20, dtype=torch.float64), moving)


def edge_of(code) -> CodedEdge:
    return CodedEdge(code, PARAMETERS, CodedChoice(TABLE, 90.0, 0.002), 160, 16)


class World:
    """One edge and its bridge; `drawn` decides what becomes of everything."""

    def __init__(self, code):
        self.code, self.edge, self.session = code, edge_of(code), 1
        self.bridge, self.answers = CodedStates(code, PARAMETERS, 4), deque()
        self.late = deque()

    def frame(self, frame_id: int, tokens: np.ndarray, arrives: list[bool], loss: float) -> None:
        coded = self.edge.encode(tokens, frame_id, UplinkState(session_id=self.session, packet_error_rate=loss, name_bytes=6))
        parts = tuple(part for index, part in enumerate(coded.parts) if arrives[index % len(arrives)])
        levels = self.edge._sent[frame_id].levels
        if parts:
            values, received = self.bridge.decode(self.session, frame_id, replace(coded, parts=parts))
            expected = np.zeros(21, bool)
            if received.any():
                for part in parts:
                    expected[tokens_of(part, PARAMETERS)] = True
                assert (values[received] == self.code.reconstruct(levels)[received]).all()
            assert (received == expected).all()
            self.answers.append((self.session, frame_id, received))

    def answer(self, number: int) -> None:
        session, frame_id, received = self.answers[number % len(self.answers)]
        self.edge.acknowledge(session, frame_id, received)
        self.check()

    def check(self) -> None:
        """The edge refers to nothing that the bridge does not have in just the same way."""
        found = self.edge._reference(self.session)
        if found is not None:
            state = self.bridge._states[self.session][found.frame_id]
            assert (state.known == found.state.known).all() and (state.levels[state.known] == found.state.levels[state.known]).all()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 10**6))
def test_the_bridge_has_what_the_edge_believes(code, data, seed):
    world, tokens = World(code), video(seed, 40)
    for frame_id in range(40):
        match data.draw(st.sampled_from(['frame'] * 8 + ['answer'] * 6 + ['restart', 'roam'])):
            case 'frame':
                world.frame((frame_id + 2**32 - 20) % 2**32, tokens[frame_id], data.draw(st.lists(st.booleans(), min_size=1, max_size=6)),
                            data.draw(st.sampled_from([0.0, 0.3, 0.6, math.nan])))
            case 'answer' if world.answers:
                world.answer(data.draw(st.integers(0, 50)))         # any, late or again
            case 'restart':
                world.bridge, world.session = CodedStates(code, PARAMETERS, 4), world.session + 1
            case 'roam':
                world.session += 1


def test_a_frame_that_moved_little_takes_fewer_bytes_once_the_first_was_answered(code):
    world, tokens = World(code), video(3, 1)[0]
    world.frame(1, tokens, [True], 0.0)
    first = sum(len(part.payload) for part in world.edge.encode(tokens, 2, UplinkState(session_id=1)).parts)
    world.answer(0)
    coded = world.edge.encode(tokens, 3, UplinkState(session_id=1))
    assert coded.reference == 1 and 4 * sum(len(part.payload) for part in coded.parts) < first


def test_what_all_patches_moved_by_is_followed_though_none_of_them_is_sent(code):
    world, tokens = World(code), video(3, 1)[0]
    world.frame(1, tokens, [True], 0.0)
    world.answer(0)
    step = np.float32(STEPS[world.edge.setting.step])
    moved = code.reconstruct(world.edge._reference(1).state.levels)
    moved[1:] += np.float32(0.5) * step * code.synthesis[-1][0]
    coded = world.edge.encode(moved, 2, UplinkState(session_id=1))
    found = world.bridge.decode(1, 2, coded)[0]
    assert np.abs(code.quantise(found) - code.quantise(moved))[1:, 0].max() < step / 4
    alone = sum(len(part.payload) for part in world.edge.encode(tokens, 3, UplinkState(session_id=2)).parts)
    assert 4 * sum(len(part.payload) for part in coded.parts) < alone


def test_a_session_that_began_anew_is_sent_nothing_in_reference_to_the_former(code):
    world, tokens = World(code), video(3, 1)[0]
    world.frame(1, tokens, [True], 0.0)
    world.answer(0)
    assert world.edge.encode(tokens, 2, UplinkState(session_id=2)).reference is None
    assert world.edge.encode(tokens, 3, UplinkState()).reference is None


def test_a_state_that_the_bridge_may_have_dropped_is_not_referred_to(code):
    world, tokens = World(code), video(4, 2 * STATES)
    world.frame(0, tokens[0], [True], 0.0)
    world.answer(0)
    references = []
    for frame_id in range(1, 2 * STATES):
        world.frame(frame_id, tokens[frame_id], [True], 0.0)
        references.append(world.edge._reference(1))
    assert references[0] is not None and references[-1] is None
    world.check()


def test_a_bridge_that_reads_nothing_of_a_frame_is_sent_the_next_as_it_is(code):
    world, tokens = World(code), video(5, 1)[0]
    world.frame(1, tokens, [True], 0.0)
    world.answer(0)
    world.edge.encode(tokens, 2, UplinkState(session_id=1))
    world.edge.acknowledge(1, 2, np.zeros(21, bool))
    assert world.edge.encode(tokens, 3, UplinkState(session_id=1)).reference is None


def test_a_part_that_cannot_be_read_counts_as_lost(code):
    edge, bridge = edge_of(code), CodedStates(code, PARAMETERS, 4)
    coded = edge.encode(video(6, 1)[0], 1, UplinkState(session_id=1, packet_error_rate=0.6))
    assert len(coded.parts) > 1
    damaged = CodedPart(*coded.parts[0][:2], coded.parts[0].payload + b'\1\2\3\4\5\6\7\x08\x09')
    _, received = bridge.decode(1, 1, replace(coded, parts=(damaged, coded.parts[1])))
    assert (np.flatnonzero(received) == tokens_of(coded.parts[1], PARAMETERS)).all()


def test_every_part_fits_into_a_datagram_or_the_edge_says_so(code):
    tokens = 3 * video(7, 1)[0]
    for bytes_ in (1200, 300, 160):
        coded = edge_of(code).encode(tokens, 1, UplinkState(datagram_bytes=bytes_, name_bytes=6))
        assert max(len(part.payload) for part in coded.parts) <= bytes_ - 16 - 46 - 6
    with pytest.raises(ValueError, match='a datagram has room for 1: expected a larger max_datagram_bytes'):
        edge_of(code).encode(tokens, 1, UplinkState(datagram_bytes=69, name_bytes=6))


def choice(margin: float = 0.002, copies: int = 0) -> CodedChoice:
    return CodedChoice(TABLE, 90.0, margin, copies)


def patches(known: bool, bits: float = 800.0) -> Patches:
    """Twenty patches of about 2,000 bytes in all, that moved by as much as their number says."""
    moved = np.geomspace(1e3, 1e6, 20) if known else np.full(20, 1e6)
    return Patches(np.full(20, bits), moved, np.full(20, 900.0), np.full(20, 1e6), np.full(20, known))


def chosen(loss: float, frame_bytes: float = math.inf, known: bool = False, burst: float = math.nan, **options):
    return choice(**options).choose(6, patches(known), 40.0, 1100, frame_bytes, loss, burst)


def copies_of(setting, loss: float, known: bool = False, **options) -> np.ndarray:
    return choice(**options).copies(setting, patches(known), loss)


def test_without_loss_the_coarsest_step_that_costs_next_to_nothing_is_sent_once():
    setting = chosen(0.0)
    assert (setting.step, setting.packets) == (12, 1) and (copies_of(setting, 0.0) == 1).all()
    assert chosen(0.0, margin=0.0).step == 6


def test_where_nothing_is_lost_it_is_the_same_with_any_number_of_datagrams():
    assert losses_of(0.0, math.nan).gains.tolist() == [[1, 0, 0, 0, 0, 0]] and len(losses_of(0.3, math.nan).gains) > 10


def test_more_loss_means_more_datagrams_and_copies():
    settings_ = [chosen(loss) for loss in (0.0, 0.1, 0.3, 0.6)]
    sizes = [setting.bytes for setting in settings_]
    assert sizes == sorted(sizes) and sizes[-1] > 2 * sizes[0]
    assert copies_of(settings_[-1], 0.6).mean() > copies_of(settings_[1], 0.1).mean()
    assert (copies_of(chosen(0.6, copies=2), 0.6, copies=2) == 2).all()


def test_patches_that_moved_more_travel_more_often_and_those_that_hardly_moved_stay():
    copies = copies_of(chosen(0.6, known=True, margin=0.02), 0.6, known=True, margin=0.02)
    assert (np.diff(copies) >= 0).all() and copies[0] == 0 and copies[-1] > 1


def test_where_the_bridge_remembers_a_frame_takes_fewer_bytes():
    assert chosen(0.6, known=True).bytes < 0.8 * chosen(0.6).bytes


def test_bursts_spread_a_frame_over_more_datagrams():
    assert chosen(0.2, burst=8.0).packets > chosen(0.2).packets


def test_a_frame_keeps_within_its_bytes_if_anything_does():
    for room in (4000.0, 1500.0, 700.0):
        assert chosen(0.3, room).bytes <= room
    assert chosen(0.3, 10.0).bytes == min(chosen(0.3, 10.0).bytes, chosen(0.3, 600.0).bytes)


def test_a_table_without_a_memory_says_what_one_saves():
    shares, costs = zip(*TABLE.with_memory, strict=True)
    assert shares == (0.0, 0.25, 0.5) and costs == (0.0, 0.05, 0.8)
    assert CodedTable({}, {}, (), ((0.0, 0.0), (0.1, 0.2))).with_memory == ((0.0, 0.0), (0.1, 0.2))
