from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.protocol.rate.copies import answer_copies
from evitif.protocol.wire import answer as answers
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.datagram import DatagramError
from evitif.vocabulary import RecoveryName, Strategy

_f32 = st.floats(0, 2.0**60, width=32)


@st.composite
def any_answer(draw) -> Answer:
    k, tokens = draw(st.integers(1, 10)), draw(st.integers(1, 60))
    received = np.array(draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens)))
    packets = draw(st.integers(0, 65535))
    remembered, age = None, float('nan')
    if draw(st.booleans()):
        remembered, age = ~received & np.array(draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens))), draw(_f32)
    return Answer(
        draw(st.integers(0, 2**32 - 1)), draw(st.integers(-2**63, 2**63 - 1)),
        tuple(draw(st.lists(st.integers(0, 2**32 - 1), min_size=k, max_size=k))),
        tuple(draw(st.lists(st.floats(-2.0**60, 2.0**60, width=32), min_size=k, max_size=k))),
        draw(st.sampled_from(Strategy)), draw(st.sampled_from(RecoveryName)),
        draw(st.integers(0, packets)), packets, draw(st.integers(0, 2**32 - 1)), int(received.sum()), tokens, received,
        draw(st.floats(0, 1, width=32) | st.just(float('nan'))), draw(st.floats(-1e9, 1e9)),
        draw(_f32), draw(_f32), draw(_f32), draw(st.floats(0, 1e6)), remembered, age, draw(_f32 | st.just(float('nan'))),
        draw(st.dictionaries(st.integers(0, 31), st.binary(min_size=1, max_size=40), max_size=4)))


GOOD = Answer(7, 123, (3, 1), (0.75, 0.25), 'split', 'paldn', 20, 33, 24000, 7, 10, np.arange(10) < 7, 0.5, 99.0,
              0.002, 0.001, 0.01, 0.02)


@given(any_answer(), st.integers(1, 255))
def test_an_answer_is_read_as_it_was_written(answer, copies):
    read, read_copies = answers.decode(memoryview(answers.encode(answer, copies)))
    assert read_copies == copies
    for field in fields(Answer):
        np.testing.assert_equal(getattr(read, field.name), getattr(answer, field.name))


def test_the_hold_can_be_changed_and_nothing_else_is():
    read, _ = answers.decode(answers.with_hold(answers.encode(GOOD, 3), 0.5))
    assert answers.encode(replace(read, hold_s=GOOD.hold_s), 3) == answers.encode(GOOD, 3)
    assert read.hold_s == 0.5


@pytest.mark.parametrize(('field', 'value'), [
    ('strategy', 'guess'), ('recovery', 'prayer'), ('scores', (float('nan'), 0.1)), ('scores', (0.1,)),
    ('class_ids', (-1, 2)), ('frame_id', 2**32), ('packets_received', 34), ('tokens_received', 11),
    ('packet_error_rate', 1.5), ('wait_s', -0.1), ('remembered', np.zeros(10, bool)), ('motion', -1.0),
    ('hold_s', float('nan')), ('hold_s', -1.0), ('first_arrival', float('inf')), ('received', np.ones(9, bool)),
    ('received', np.ones(10, np.uint8))])
def test_an_answer_that_cannot_be_is_refused_by_name(field, value):
    name = {'frame_id': 'cannot be written', 'class_ids': 'cannot be written'}.get(field, field)
    with pytest.raises(ValueError, match=name):
        answers.encode(replace(GOOD, **{field: value}), 3)


def test_a_body_of_another_length_is_refused():
    body = answers.encode(GOOD, 3)
    for cut, kind in ((body[:10], 'truncated'), (body[:-1], 'truncated'), (body + b'x', 'malformed')):
        with pytest.raises(DatagramError) as raised:
            answers.decode(cut)
        assert raised.value.kind == kind


@pytest.mark.parametrize('heads', [b'\0\0\1', b'\0\0\0', b'\1\0\1a\0\0\1b', b'\0\0\1a\0\0\1b', b'\0\0\5abc'])
def test_heads_that_do_not_end_say_nothing_or_are_out_of_order_are_refused(heads):
    with pytest.raises(DatagramError, match='malformed'):
        answers.decode(answers.encode(GOOD, 3) + heads)


def test_what_does_not_fit_is_left_out_heads_before_the_last_class():
    answer = replace(GOOD, class_ids=tuple(range(100)), scores=(0.01,) * 100, heads={0: b'a' * 40, 2: b'b' * 400, 3: b'c' * 40})
    for room in (140, 200, 548, 1200, 5000):
        fitted = answers.fit_classes(answer, room)
        assert len(answers.encode(fitted, 1)) <= room and 1 <= len(fitted.scores) <= 100
    assert set(answers.fit_classes(answer, 140).heads) == {0} and set(answers.fit_classes(answer, 200).heads) == {0, 3}
    assert len(answers.fit_classes(answer, 5000).scores) == 100 and answers.fit_classes(answer, 5000).heads == answer.heads


@given(st.integers(0, 8 * len(answers.encode(GOOD, 3)) - 1), st.binary(max_size=200))
def test_no_bytes_make_the_parser_raise_anything_else(bit, noise):
    body = bytearray(answers.encode(GOOD, 3))
    body[bit // 8] ^= 1 << bit % 8
    for data in (bytes(body), noise):
        try:
            read, copies = answers.decode(data)
        except DatagramError:
            continue
        answers.encode(read, copies)      # what was let in is a possible answer


@pytest.mark.parametrize('loss', [0.01, 0.05, 0.1, 0.2, 0.3, 0.6])
def test_lost_answers_take_but_a_fifth_of_the_frames_that_may_stay_unanswered(loss):
    assert loss ** answer_copies(loss) <= 0.2 * 0.001
