"""The strategy `selection` with a light model and an entropy code: what did not move since it was acknowledged is not sent again."""

import functools
import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running_system import System, wait
from small_systems import write_pair, write_patch_code

from evitif.model.errors import ArtifactError, CodeError
from evitif.pipeline.coded_states import CodedStates, chosen_of, with_chosen
from evitif.pipeline.selection_bridge import SelectionBridge
from evitif.pipeline.selection_edge import SelectionEdge
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.coded_frame import tokens_of
from evitif.settings import bridge_settings, edge_settings


@pytest.fixture(scope='module')
def both(tmp_path_factory) -> dict:
    light, large = write_pair(tmp_path_factory.mktemp('chosen'))
    write_patch_code(large)
    return {'strategy': 'selection', 'model': large, 'light_model': light, 'unsealed': True, 'threads': 1}


def picture(seed: int) -> np.ndarray:
    coarse = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (32, 32), mode='bicubic').tanh()[0]
    return ((smooth + 1) * 127).byte().permute(1, 2, 0).numpy()


@pytest.fixture(scope='module')
def edge(both):
    return SelectionEdge(edge_settings(**both))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(0, 10**6))
def test_the_bridge_has_of_the_chosen_patches_what_the_edge_believes(edge, data, seed):
    coder, session, answers, random = edge._coded, 1, deque(), np.random.default_rng(seed)
    coder._sent.clear()
    coder._acknowledged = None
    bridge = CodedStates(coder._code, edge.parameters, 4)
    values = random.normal(0, 0.3, (16, 192)).astype(np.float32)
    for number in range(30):
        match data.draw(st.sampled_from(['frame'] * 8 + ['answer'] * 6 + ['restart'])):
            case 'frame':
                values = values + random.normal(0, 0.03, (16, 1)) * (random.random((16, 1)) < 0.5)
                chosen = np.array(data.draw(st.lists(st.booleans(), min_size=16, max_size=16)))
                if not chosen.any():
                    continue
                loss = data.draw(st.sampled_from([0.0, 0.3, 0.6, math.nan]))
                uplink = UplinkState(session_id=session, packet_error_rate=loss, name_bytes=0)
                coded = coder.encode(values.astype(np.float32), number, uplink, chosen)
                kept = data.draw(st.lists(st.booleans(), min_size=1, max_size=5))
                parts = tuple(part for index, part in enumerate(coded.parts) if kept[index % len(kept)])
                if not parts:
                    continue
                read, received = bridge.decode(session, number, replace(coded, parts=parts))
                brought = np.zeros(16, bool)
                for part in parts:
                    brought[tokens_of(part, edge.parameters)] = True
                known = coded.reference is None or coded.reference in bridge._states[session]
                assert (received == (brought & chosen if known else False)).all() and bridge.sent == chosen.sum() == coded.sent
                levels = coder._sent[number].levels
                assert (read[received] == coder._code.reconstruct(levels)[received]).all()
                answers.append((session, number, received))
            case 'answer' if answers:
                coder.acknowledge(*answers[data.draw(st.integers(0, 20)) % len(answers)])
                found = coder._reference(session)
                if found is not None:
                    state = bridge._states[session][found.frame_id]
                    assert (state.known == found.state.known).all()
                    assert (state.levels[state.known] == found.state.levels[state.known]).all()
            case 'restart':
                bridge, session = CodedStates(coder._code, edge.parameters, 4), session + 1


def test_of_chosen_patches_that_did_not_move_next_to_nothing_is_sent(edge):
    def send(number, seed):
        uplink = UplinkState(session_id=71)
        observation = replace(edge.observe(picture(seed), uplink), frame_id=number)
        encoded = edge.encode(observation, uplink)
        assert np.array_equal(encoded.chosen, observation.content.chosen) and 0 < len(encoded.chosen) < 16
        received = np.zeros(16, bool)
        received[encoded.chosen] = True
        edge.acknowledge(71, number, received)
        return sum(len(part.payload) for part in encoded.coded.parts)
    first, again, other = send(1, 1), send(2, 1), send(3, 2)
    assert again < 0.2 * first < 0.5 * other


@pytest.mark.parametrize('loss', [0.0, 0.3])
def test_the_large_model_answers_from_the_chosen_patches_alone(both, loss):
    with System({**both, 'answer_deadline': 2.0}, bridge=both, loss=loss) as system:
        system.connected()
        for index in range(1, 13):
            system.edge.submit(picture(index // 6), index * 10**8)
            wait(functools.partial(system.ended, index))
        statistics = system.edge.statistics()
    answered = [prediction for prediction in system.robot if prediction.how == 'off-board']
    assert len(answered) >= 8 and statistics.quantisation == 'coded'
    for prediction in answered:
        assert 0 < prediction.tokens_sent == prediction.sent.sum() < 16 and prediction.remembered is None
        assert (prediction.received <= prediction.sent).all() and prediction.tokens_received == prediction.received.sum()
        assert loss or prediction.tokens_received == prediction.tokens_sent
    for _, prediction in system.off_board:
        assert prediction.tokens_received <= prediction.tokens_sent < 16
    if not loss:
        sizes = [prediction.uplink_bytes for prediction in answered]
        assert max(sizes[2:5]) < 0.7 * sizes[0] and sizes[5] > 1.5 * sizes[4]     # headers are most of it; then another picture


def test_rows_are_sent_where_they_are_asked_for(both):
    edge = SelectionEdge(edge_settings(**both, quantisation='rows'))
    encoded = edge.encode(edge.observe(picture(1), UplinkState()), UplinkState())
    assert encoded.coded is None and encoded.rows.shape == (16, 24) and not edge.parameters.entropy_code
    with System({**both, 'quantisation': 'rows'}, bridge=both) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        assert 'entropy_code: the edge has ' in system.edge.statistics().reason


def test_a_code_that_was_asked_for_and_is_not_there_is_named(tmp_path):
    light, large = write_pair(tmp_path)
    with pytest.raises(ArtifactError, match=r'has no code for its patches \(pixels-entropy-cut0.json\)'):
        SelectionBridge(bridge_settings(strategy='selection', model=large, light_model=light, unsealed=True, quantisation='coded'))


def test_which_patches_are_chosen_is_read_as_it_was_written():
    places, chosen = np.array([1, 4, 5, 9, 11, 12, 13, 14, 15]), np.arange(16) % 3 == 0
    payload = with_chosen(b'packed', places, chosen)
    packed, read, sent = chosen_of(payload, places)
    assert (packed, read.tolist(), sent) == (b'packed', [9, 12, 15], 6)
    with pytest.raises(CodeError, match='3 bytes of chosen patches: expected 2 and a bit for each of 9'):
        chosen_of(payload[:3], places)
