"""`top_k`: the edge publishes as many classes as it was told, the bridge as many as it was told, in every strategy."""

import dataclasses
import functools

import numpy as np
import pytest
from running_system import IMAGE, System, wait
from small_systems import CLASSES, DEVICES

from evitif.protocol.sealing.keys import write_key_file
from evitif.protocol.wire import answer as answers
from evitif.protocol.wire.answer import Answer

SPLIT = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 6, 'strategy': 'split'}


@pytest.fixture
def systems(pair, partition):
    """What edges and bridge of each strategy are told."""
    light, large = pair
    selection = {'strategy': 'selection', 'light_model': light, 'model': large}
    divided = {'strategy': 'partition', 'partition': partition}
    return {'split': ([SPLIT], SPLIT), 'selection': ([selection], selection),
            'partition': ([{**divided, 'partition_device': name} for name in DEVICES], divided)}


@pytest.mark.parametrize('strategy', ['split', 'selection', 'partition'])
@pytest.mark.parametrize(('edge', 'bridge', 'on_robot', 'off_board'), [(2, None, 2, 5), (6, 3, 6, 3), (None, 3, 3, 3)])
def test_each_side_publishes_as_many_classes_as_it_was_told(systems, strategy, edge, bridge, on_robot, off_board):
    assert len(CLASSES) == 6
    told = {'unsealed': True, 'threads': 1, 'answer_deadline': 5.0}
    edges, other = systems[strategy]
    asked = {} if edge is None else {'top_k': edge}
    with System(*[{**told, **one, **asked} for one in edges],
                bridge={'unsealed': True, 'threads': 1, **other, **({} if bridge is None else {'top_k': bridge})}) as system:
        system.connected()
        for one in system.edges:
            one.submit(IMAGE, 7)
        wait(lambda: len(system.robot) == len(edges) and system.off_board)
    if strategy == 'selection' and edge is None:
        on_robot = 5        # those that the light model's answer chooses among
    assert {len(prediction.class_ids) for prediction in system.robot} == {on_robot}
    assert {len(prediction.scores) for prediction in system.robot} == {len(prediction.labels) for prediction in system.robot} == {on_robot}
    assert len(system.off_board[0][1].class_ids) == len(system.off_board[0][1].labels) == off_board


def test_a_sealed_link_asks_as_well(tmp_path):
    write_key_file(tmp_path / 'robot.key')
    both = {**SPLIT, 'threads': 1, 'key_file': str(tmp_path / 'robot.key')}
    with System({**both, 'top_k': 6}, bridge={**both, 'top_k': 1}) as system:
        system.connected()
        system.edge.submit(IMAGE, 7)
        wait(functools.partial(len, system.robot))
    assert len(system.robot[0].class_ids) == 6 and len(system.off_board[0][1].class_ids) == 1


def test_a_robot_with_few_classes_takes_nothing_from_the_choice_of_the_light_model(systems):
    best = []
    for asked in ({'top_k': 1}, {}):
        (edge,), bridge = systems['selection']
        common = {'unsealed': True, 'threads': 1}
        with System({**common, **edge, **asked}, bridge={**common, **bridge, **asked}) as system:
            system.connected()
            system.edge.submit(IMAGE, 7)
            wait(functools.partial(len, system.robot))
        best.append(system.robot[0].class_ids[0])
    assert best[0] == best[1]


def test_an_answer_has_as_many_classes_as_fit_into_its_datagram():
    answer = Answer(7, 123, tuple(range(1000)), tuple(np.linspace(1, 0, 1000).tolist()), 'split', 'none', 20, 33, 24000, 7, 10,
                    np.arange(10) < 7, 0.5, 99.0, 0.002, 0.001, 0.01, 0.02)
    body = answers.encode(answers.fit_classes(answer, 1160), 1)
    read, _ = answers.decode(body)
    assert 1160 - answers.TOP.size < len(body) <= 1160 and read.class_ids == tuple(range(len(read.class_ids)))
    assert len(answers.fit_classes(answer, 100_000).class_ids) == answers.MAX_TOP_K
    small = dataclasses.replace(answer, class_ids=(3, 1), scores=(0.7, 0.3))
    assert answers.fit_classes(small, 1160) is small
