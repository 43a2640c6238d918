"""Heads on the bridge: one run of the tail for all, their answers to the robot and off-board, and only those that somebody reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from heads_backbone import probe_of
from running_system import IMAGE, System, wait

from evitif.heads import Features, Reading, save_head
from evitif.heads.embed import EmbedHead
from evitif.heads.maps import Mask
from evitif.model.build import ModelSpec, build_model
from evitif.model.errors import ArtifactError
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.smoothing import Smoothing
from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.split_edge import SplitEdge
from evitif.pipeline.strategy import blank_frame
from evitif.settings import SplitSettings, bridge_settings, edge_settings
from evitif.vocabulary import Fit

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1, 'quantisation': 'int8'}
SECOND = 1_000_000_000


@pytest.fixture(scope='module')
def heads(tmp_path_factory):
    """Three heads, by name their folder: two that classify, one vector."""
    folder = tmp_path_factory.mktemp('artifacts')
    module = build_model(ModelSpec(MODEL['model'], random_seed=1, num_classes=9, image_size=64)).module
    for name, block, kind in (('rooms', 12, None), ('things', 9, None), ('view', 12, EmbedHead)):
        reading = Reading((block,), True, (64, 64), (4, 4), 1, 192)
        head = probe_of(reading) if kind is None else probe_of(reading, (), kind)
        save_head(folder / name, head, module, {'model': MODEL['model']})
    return {name: str(folder / name) for name in ('rooms', 'things', 'view')}


def named(heads, *names):
    return ','.join(heads[name] for name in names)


def frame(bridge, number=0, lost=(), session=1, seed=1):
    received = np.ones(bridge.parameters.tokens, bool)
    received[list(lost)] = False
    values = np.random.default_rng(seed).normal(size=(bridge.parameters.tokens, 192)).astype(np.float32)
    return replace(blank_frame(bridge.parameters, received), rows=bridge.model.quantiser.quantise(values), session_id=session,
                   frame_id=number, capture_stamp_ns=SECOND + number * SECOND // 10)


def test_heads_say_the_same_beside_others_and_the_classifier_what_it_said_without_them(heads):
    alone = SplitBridge(bridge_settings(**MODEL))
    three = SplitBridge(bridge_settings(**MODEL, heads=named(heads, 'rooms', 'things', 'view')))
    one = SplitBridge(bridge_settings(**MODEL, heads=heads['things']))
    for lost in ((), range(3, 9)):
        (first,), (second,), (third,) = (bridge.answer_batch([frame(bridge, lost=lost)]) for bridge in (alone, three, one))
        assert (first.class_ids, first.heads) == (second.class_ids, {})
        np.testing.assert_allclose(first.scores, second.scores, rtol=1e-5)
        assert second.heads.keys() == {'rooms', 'things', 'view'} and third.heads['things'].class_ids == second.heads['things'].class_ids
        assert np.linalg.norm(second.heads['view'].vector) == pytest.approx(1)


def test_the_blocks_behind_the_cut_run_once_for_all_heads_and_what_nobody_reads_is_not_computed(heads, monkeypatch):
    bridge = SplitBridge(bridge_settings(**MODEL, heads=named(heads, 'rooms', 'things', 'view')))
    ran, computed = [], []
    for index, block in enumerate(bridge.model.split.module.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    for head in bridge.model.heads:
        monkeypatch.setattr(head, 'results', lambda *about, head=head, real=head.results: computed.append(head.name) or real(*about))
    bridge.answer_batch([frame(bridge)])
    assert ran == list(range(1, 12)) and computed == ['rooms', 'things', 'view']
    computed.clear()
    bridge.heads_read = lambda about: {'things'} if about.session_id == 1 else set()
    first, second = bridge.answer_batch([frame(bridge), frame(bridge, session=2)])
    assert computed == ['things'] and (first.heads.keys(), second.heads) == ({'things'}, {})


def test_a_frame_that_next_to_nothing_arrived_of_makes_heads_less_sure(heads):
    bridge = SplitBridge(bridge_settings(**MODEL, heads=heads['rooms']))
    sure = [bridge.answer_batch([frame(bridge, number, lost)])[0].heads['rooms'].scores[0] for number, lost in ((0, ()), (5, range(1, 17)))]
    assert sure[0] > sure[1]


def test_answers_of_several_heads_reach_the_robot_and_those_that_nobody_reads_do_not(heads):
    both = {'heads': named(heads, 'rooms', 'view')}
    with System({**MODEL, **both, 'unsealed': True, 'answer_deadline': 5.0}, bridge={
            **MODEL, 'unsealed': True, 'heads': named(heads, 'things', 'rooms', 'view')}) as system:
        system.connected()
        system.edge.submit(IMAGE, 1)
        wait(lambda: system.robot and system.off_board)
        on_robot, off_board = system.robot[0], system.off_board[0][1]
        assert on_robot.heads.keys() == {'rooms', 'view'} and off_board.heads.keys() == {'rooms', 'things', 'view'}
        assert on_robot.heads['rooms'].class_ids == off_board.heads['rooms'].class_ids
        assert on_robot.heads['view'].vector @ off_board.heads['view'].vector > 0.999
        assert on_robot.class_ids == off_board.class_ids
        uplink = on_robot.uplink_bytes
        system.edge.read_heads(['rooms'])
        for stamp in range(2, 200):         # the next PING tells the bridge
            system.edge.submit(IMAGE, stamp)
            wait(lambda stamp=stamp: system.robot[-1].capture_stamp_ns == stamp)
            if system.robot[-1].heads.keys() == {'rooms'}:
                break
        assert system.robot[-1].heads.keys() == {'rooms'}
    with System({**MODEL, 'unsealed': True, 'answer_deadline': 5.0}, bridge={**MODEL, 'unsealed': True, **both}) as system:
        system.connected()                  # a robot without heads is served too
        system.edge.submit(IMAGE, 1)
        wait(lambda: system.robot)
        assert system.robot[0].heads == {} and system.robot[0].uplink_bytes == uplink


def test_what_a_head_says_that_has_no_room_is_named_once_and_the_other_heads_go_on(heads):
    """Of two heads before it one says little; 256 bytes have no room for a vector of 384."""
    link = {'unsealed': True, 'max_datagram_bytes': 256, 'heads': named(heads, 'view', 'rooms')}
    with System({**MODEL, **link, 'answer_deadline': 5.0}, bridge={**MODEL, **link}) as system:
        system.connected()
        for stamp in range(1, 4):
            system.edge.submit(IMAGE, stamp)
            wait(lambda stamp=stamp: len(system.robot) == stamp)
        assert [prediction.heads.keys() for prediction in system.robot] == [{'rooms'}] * 3
        wait(lambda: system.bridge.statistics().heads_left_out == {'view of robot': 3})      # counted once the answer is on its way
        said = [text for _, text in system.log if 'head view' in text]
        assert len(said) == 1 and 'does not reach robot robot: it takes 384 bytes' in said[0]


def test_a_map_that_has_no_room_does_not_keep_the_other_heads_from_the_robot(heads, monkeypatch):
    both = {'unsealed': True, 'heads': named(heads, 'rooms')}
    with System({**MODEL, **both}, bridge={**MODEL, **both}) as system:
        system.connected()
        session_id, session = next(iter(system.bridge._endpoint.sessions.items()))
        noise = np.random.default_rng(0).integers(0, 200, (1, 255 * 15)).astype(np.uint8)
        system.bridge._heads_back.send_maps(replace(blank_frame(session.parameters, np.ones(17, bool)), session_id=session_id),
                                            {'rooms': Mask(np.repeat(noise, 15, 0), np.zeros((1, 255), np.uint8))})
        assert system.bridge.statistics().heads_left_out == {'rooms of robot': 1}
        assert 'does not fit into datagrams: a row of a map takes' in system.log[-1][1]


def test_a_robot_with_a_head_that_the_bridge_does_not_have_is_refused_by_name(heads):
    with System({**MODEL, 'unsealed': True, 'heads': heads['things']}, bridge={
            **MODEL, 'unsealed': True, 'heads': heads['rooms']}) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        assert 'heads: the edge has things (' in system.edge.statistics().reason
        assert ', the bridge has rooms (' in system.edge.statistics().reason


def test_what_cannot_be_chosen_is_one_sentence(heads, tmp_path):
    with pytest.raises(ArtifactError, match="heads names two heads 'rooms': expected folders with names that differ"):
        SplitBridge(bridge_settings(**MODEL, heads=named(heads, 'rooms', 'rooms')))
    module = build_model(ModelSpec(MODEL['model'], random_seed=1, num_classes=9, image_size=64)).module
    reading = Reading((12,), True, (64, 64), (4, 4), 1, 192)
    for name in ('other', 'my-head'):
        save_head(tmp_path / name, probe_of(reading, (), EmbedHead), module, {'model': MODEL['model']})
    with pytest.raises(ArtifactError, match='heads names view and other, which both publish embedding'):
        CutModel.load(SplitSettings(**MODEL, heads=f'{heads["view"]},{tmp_path / "other"}'))
    with pytest.raises(ArtifactError, match="the head 'my-head' cannot name topics"):
        CutModel.load(SplitSettings(**MODEL, heads=str(tmp_path / 'my-head')))


def test_a_model_sees_pictures_as_its_heads_were_trained_unless_it_is_told_otherwise(heads, tmp_path):
    module = build_model(ModelSpec(MODEL['model'], random_seed=1, num_classes=9, image_size=(64, 96), fit='squash')).module
    reading = Reading((12,), True, (64, 96), (4, 6), 1, 192, Fit.SQUASH)
    save_head(tmp_path / 'wide', probe_of(reading, (), EmbedHead), module, {'model': MODEL['model']})
    free, wide = {**MODEL, 'image_size': None}, str(tmp_path / 'wide')
    for side in (SplitBridge(bridge_settings(**free, heads=wide)), SplitEdge(edge_settings(**free, heads=wide))):
        assert (side.parameters.image_size, side.parameters.grid, side.parameters.fit) == ((64, 96), (4, 6), Fit.SQUASH)
    with pytest.raises(ArtifactError, match='were trained on vit_tiny_patch16_224 for pictures of 64x96 pixels, and .* 14x14 pixels'):
        SplitBridge(bridge_settings(model='vit_small_patch14_dinov2', random_seed=1, heads=wide))
    with pytest.raises(ArtifactError, match='trained for pictures of 64x96 pixels and fit squash with .* here takes 64x96 and fit pad'):
        SplitBridge(bridge_settings(**{**MODEL, 'image_size': '64x96'}, fit='pad', heads=wide))
    with pytest.raises(ArtifactError, match='was trained for pictures of 64x96 pixels with .* here takes 64x64: leave image_size and fit'):
        SplitBridge(bridge_settings(**MODEL, heads=wide))
    with pytest.raises(ArtifactError, match='heads names rooms, trained with image_size 64x64, and wide, with 64x96: expected heads that'):
        SplitEdge(edge_settings(**free, heads=f'{heads["rooms"]},{wide}'))
    with pytest.raises(ArtifactError, match='head .*rooms was trained on the backbone .*other preprocessing'):      # trained with auto
        SplitBridge(bridge_settings(**MODEL, fit='pad', heads=heads['rooms']))


@pytest.mark.parametrize(('strategy', 'needed'), [('selection', {'light_model': 'x'}), ('partition', {'partition': 'x'})])
def test_strategies_that_only_classify_refuse_heads(strategy, needed):
    for settings, more in ((bridge_settings, {}), (edge_settings, {'partition_device': '0'} if strategy == 'partition' else {})):
        with pytest.raises(ValueError, match=f'strategy {strategy} only classifies, with its model'):
            settings(strategy, **needed, **more, heads='artifacts/rooms')


def test_smoothing_moves_towards_what_is_new_and_begins_anew_with_another_scene():
    smoothing, old, new = Smoothing(0.5, 4), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    def step(number, values, same_scene=True, session=1):
        return smoothing.frame(session, SECOND + number * SECOND // 10, same_scene)('', values)[1].item()
    assert step(0, old) == 0
    steps = [step(number, new) for number in range(1, 6)]
    assert steps == pytest.approx([1 - np.exp(-0.2 * number) for number in range(1, 6)])         # as if the steps were one
    assert step(6, new, session=2) == 1 and step(6, old, same_scene=False) == 0 and step(7, new, same_scene=False) == 1
    assert step(100, old) == 0 and step(2, new) == 1                                             # a gap; a stamp that goes back


def test_smoothed_answers_flicker_less_and_follow_a_new_scene_at_once(heads):
    plain, smooth = (SplitBridge(bridge_settings(**MODEL, heads=heads['rooms'], smoothing=seconds)) for seconds in (0.0, 1.0))
    def noisy(bridge, number, seed, noise):
        values = np.random.default_rng(seed).normal(size=(17, 192)) + noise * np.random.default_rng(number).normal(size=(17, 192))
        return replace(frame(bridge, number), rows=bridge.model.quantiser.quantise(values.astype(np.float32)))
    changes = []
    for bridge in (plain, smooth):
        answers = [bridge.answer_batch([noisy(bridge, number, 1, 0.5)])[0] for number in range(30)]
        assert len({answer.heads['rooms'].class_ids for answer in answers}) >= 1
        changes.append(np.abs(np.diff([answer.scores[0] for answer in answers])).mean())
    assert changes[1] < changes[0] / 3
    other = [bridge.answer_batch([noisy(bridge, 31, 2, 0.0)])[0] for bridge in (plain, smooth)]
    assert other[0].scores == pytest.approx(other[1].scores)


def test_trust_is_one_for_what_arrived_and_less_for_the_rest(heads, monkeypatch):
    bridge, seen = SplitBridge(bridge_settings(**MODEL, heads=heads['rooms'])), []
    real = Features.of_outputs
    monkeypatch.setattr(Features, 'of_outputs', lambda *about: seen.append(about[4]) or real(*about))
    for number, lost in enumerate(((), (), (5, 6))):
        bridge.answer_batch([frame(bridge, number, lost, session=7)])
    bridge.answer_batch([frame(bridge, 0, (5, 6), session=8)])
    assert seen[0] is None
    remembered, nothing = (trust[0].tolist() for trust in seen[2:])
    assert 0 < remembered[5] < 1 and nothing[5:7] == [0, 0] and remembered[:5] == nothing[:5] == [1] * 5
