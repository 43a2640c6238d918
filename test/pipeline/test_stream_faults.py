"""Faults that come with every image of a stream: no frame is lost without a word, and no log is filled."""

import logging

import pytest
from running_system import IMAGE, System, wait

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1, 'unsealed': True, 'threads': 1}
LONG = 'ü' * 200        # 400 bytes


def systems(pair, partition):
    light, large = pair
    selection = {'unsealed': True, 'threads': 1, 'strategy': 'selection', 'light_model': light, 'model': large}
    divided = {'unsealed': True, 'threads': 1, 'strategy': 'partition', 'partition': partition}
    return {'split': (MODEL, MODEL), 'selection': (selection, selection), 'partition': ({**divided, 'partition_device': 'left'}, divided)}


@pytest.mark.parametrize('strategy, more', [
    ('split', {}), ('selection', {}), ('partition', {}), ('split', {'max_datagram_bytes': 520, 'quantisation': 'fp16'})],
    ids=['split', 'selection', 'partition', 'little room beside a row'])
def test_a_frame_id_of_any_length_is_answered_whole_on_the_robot_and_cut_off_board(pair, partition, strategy, more):
    edge, bridge = systems(pair, partition)[strategy]
    with System({**edge, **more}, bridge={**bridge, **more}) as running:
        running.connected()
        for stamp in range(1, 6):
            running.edge.submit(IMAGE, stamp, LONG)
            wait(lambda stamp=stamp: len(running.robot) == len(running.off_board) == stamp)
        statistics = running.edge.statistics()
        longest = running.edge._connection.longest_name
    assert statistics.frames_answered == 5 and statistics.frames_failed == 0
    assert {prediction.source_frame for prediction in running.robot} == {LONG}
    (shortened,) = {prediction.source_frame for _, prediction in running.off_board}
    assert shortened and LONG.startswith(shortened) and longest - 1 <= len(shortened.encode()) <= longest <= 255
    warned = [text for level, text in running.log if level == logging.WARNING and 'frame_id' in text]
    assert len(warned) == 1 and '400 bytes' in warned[0] and f'expected at most {longest}' in warned[0]


@pytest.mark.parametrize('step', ['encode', 'send_frame'])
def test_an_image_that_cannot_be_sent_is_answered_alone_and_said_once(monkeypatch, step):
    with System({**MODEL, 'local_fallback': True}, bridge=MODEL) as running:
        running.connected()

        def fails(*_):
            raise ValueError('rows are wrong')
        monkeypatch.setattr(running.edge._connection if step == 'send_frame' else running.edge._strategy, step, fails)
        for stamp in range(1, 6):
            running.edge.submit(IMAGE, stamp)
            wait(lambda stamp=stamp: len(running.robot) == stamp)
        statistics = running.edge.statistics()
        assert not running.edge._pending
    assert {(prediction.how, prediction.strategy) for prediction in running.robot} == {('fallback', 'split')}
    assert (statistics.frames_failed, statistics.frames_local, statistics.frames_unsent, statistics.frames_sent) == (5, 5, 0, 0)
    assert [text for level, text in running.log if level == logging.ERROR] == ['frame of stamp 0.000 s failed: rows are wrong']


def test_an_answer_that_cannot_be_refined_is_published_as_it_came(monkeypatch):
    with System(MODEL, bridge=MODEL) as running:
        running.connected()

        def fails(*_):
            raise ValueError('no prior')
        monkeypatch.setattr(running.edge._strategy, 'refine', fails)
        for stamp in range(1, 6):
            running.edge.submit(IMAGE, stamp)
            wait(lambda stamp=stamp: len(running.robot) == len(running.off_board) == stamp)
    assert running.robot[0].class_ids == running.off_board[0][1].class_ids
    errors = [text for level, text in running.log if level == logging.ERROR]
    assert len(errors) == 1 and 'no prior' in errors[0]


def test_a_tail_that_fails_with_every_frame_is_said_once(monkeypatch):
    with System({**MODEL, 'answer_deadline': 0.2, 'local_fallback': True}, bridge=MODEL) as running:
        running.connected()

        def fails(*_):
            raise ValueError('no memory')
        monkeypatch.setattr(running.bridge._strategy, 'answer_batch', fails)
        for stamp in range(1, 6):
            running.edge.submit(IMAGE, stamp)
            wait(lambda stamp=stamp: len(running.robot) == stamp)
        failed = running.bridge.statistics().frames_failed
    assert failed == 5 and {prediction.how for prediction in running.robot} == {'fallback'}
    errors = [text for level, text in running.log if level == logging.ERROR]
    assert len(errors) == 1 and 'of robot robot failed: no memory' in errors[0]
