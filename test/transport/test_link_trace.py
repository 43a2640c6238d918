"""Traces of links: what was measured is what is played, rates are Mahimahi's, and a bad file gets a sentence."""

import math
from pathlib import Path

import pytest

from evitif.protocol.arrivals import Arrivals
from evitif.transport import ImpairedChannel, Impairment, LinkSimulator
from evitif.transport.link_trace import COLUMNS, OPPORTUNITY_BYTES, load_trace
from evitif.transport.trace_writer import TraceWriter

STEP = 0.01


def written(path, rows):
    path.write_text('\n'.join([COLUMNS, *rows]) + '\n')
    return str(path)


def csv(path, fates, drift=0.0, silent=()):
    """A trace of datagrams each 10 ms: a delay in seconds, or None where one is lost; of `silent` ones nobody knows when they left."""
    rows = [f'{number},{7 + number * STEP * (1 + drift) + delay:.6f},100,{"" if number in silent else f"{number * STEP:.6f}"}'
            for number, delay in enumerate(fates) if delay is not None]
    return written(path, rows)


def played(trace, times, began=None, **more):
    channel = ImpairedChannel(Impairment(trace=trace, **more))
    channel.set_impairment(channel.impairment, began)
    return [channel.offer(b'x' * 72, time) for time in times]


def test_each_datagram_has_the_fate_of_the_one_that_was_sent_at_its_time_and_the_trace_begins_again(tmp_path):
    fates = [0.0, None, 0.02, 0.02, None, None, 0.0, 0.005] + [0.0] * 93 + [0.001]
    trace = csv(tmp_path / 'a.csv', fates)
    times = [number * STEP for number in range(len(fates) - 1)]
    for start in (0.0, (len(fates) - 1) * STEP):
        found = played(trace, [start + time for time in times], began=0.0)
        assert [bool(delivered) for delivered in found] == [fate is not None for fate in fates[:-1]]
    first = played(trace, times, began=0.0)
    assert first[2][0][0] == pytest.approx(0.04, abs=1e-4)
    assert first[7][0][0] == pytest.approx(0.075, abs=1e-4)


def test_who_sends_more_than_was_recorded_meets_the_same_losses_more_often(tmp_path):
    trace = csv(tmp_path / 'a.csv', [None if number % 4 == 0 else 0.0 for number in range(400)] + [0.0])
    found = played(trace, [number * STEP / 10 for number in range(4000)])
    assert sum(not delivered for delivered in found) / 4000 == pytest.approx(0.25, abs=0.05)


def test_a_clock_that_drifts_and_datagrams_that_do_not_say_when_they_left_add_no_delay(tmp_path):
    silent = {number for number in range(12_000) if number % 7}
    trace = load_trace(csv(tmp_path / 'a.csv', [0.0] * 12_000, drift=1e-4, silent=silent))
    assert max(trace.delay) < 0.005 and trace.loss == 0.0
    assert trace.length_s == pytest.approx(120.0, rel=0.01)


def test_the_link_was_down_where_nothing_arrived_for_longer_than_a_robot_is_silent(tmp_path):
    rows = [f'{number},{number * STEP + (number >= 50) * 3.0:.3f},100,{number * STEP + (number >= 50) * 3.0:.3f}' for number in range(100)]
    trace = written(tmp_path / 'a.csv', rows)
    found = played(trace, [0.2, 1.0, 2.0, 3.0, 3.7], began=0.0)
    assert [bool(delivered) for delivered in found] == [True, False, False, False, True]


def test_a_datagram_that_was_overtaken_holds_up_no_others(tmp_path):
    rows = [f'{number},{number * STEP + 0.3 * (number == 5):.3f},100,{number * STEP:.3f}' for number in range(60)]
    found = played(written(tmp_path / 'a.csv', rows), [number * STEP for number in range(8)], began=0.0)
    assert found[5][0][0] == pytest.approx(0.35, abs=1e-3) and found[6][0][0] == pytest.approx(0.06, abs=1e-3)


def test_numbers_wrap_and_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    rows = [f'{number % 2**32},{index * STEP},100,{index * STEP}' for index, number in enumerate(range(2**32 - 3, 2**32 + 3))]
    trace = load_trace(written(tmp_path / 'a.csv', [*rows, '4,0.0']))
    assert len(trace.delay) == 6 and trace.loss == 0.0


def test_a_link_with_a_trace_of_mahimahi_carries_1500_bytes_at_each_of_its_milliseconds(tmp_path):
    path = tmp_path / 'up'
    path.write_text('0\n10\n10\n40\n')
    channel = ImpairedChannel(Impairment(trace=str(path), queue_s=1.0))
    size = OPPORTUNITY_BYTES - 28
    left = [channel.offer(b'x' * size, 0.0)[0][0] for _ in range(6)]
    assert left == pytest.approx([0.0, 0.010, 0.010, 0.040, 0.040, 0.050])      # the end of a round is the beginning of the next
    assert channel.offer(b'x' * (size // 3), 0.199)[0][0] == pytest.approx(0.2)
    assert channel.offer(b'x' * (size // 3), 0.199)[0][0] == pytest.approx(0.2)   # the rest of the same opportunity
    assert channel.offer(b'x' * (2 * size), 0.201)[0][0] == pytest.approx(0.210)


def test_the_queue_of_a_link_with_a_trace_of_rates_is_as_long_as_it_may_be(tmp_path):
    path = tmp_path / 'up'
    path.write_text('1000\n')
    channel = ImpairedChannel(Impairment(trace=str(path), queue_s=0.1))
    assert channel.offer(b'x', 0.0) == channel.offer(b'x', 0.1) == []
    assert channel.counters.queue_dropped == 2
    assert channel.offer(b'x', 0.95)[0][0] == pytest.approx(1.0)


@pytest.mark.parametrize(('content', 'expected'), [
    ('', 'is empty'),
    ('# only a remark\n', 'is empty'),
    ('time,loss\n0,1\n', "line 1 is 'time,loss'"),
    ('5\n4\n', 'line 2: expected a time in whole milliseconds, not before the one above'),
    ('1\n2.5\n', "got '2.5'"),
    ('0\n0\n', 'lasts 0 ms'),
    (f'{COLUMNS}\n', 'has 0 datagrams that arrived'),
    (f'{COLUMNS}\n1,0.0,100,\n', 'has 1 datagrams that arrived'),
    (f'{COLUMNS}\n1,0.0,100,\nx\n2,0.1,100,\n', "line 3: expected sequence,arrived_s,bytes,sent_s, the last may be empty, got 'x'"),
    (f'{COLUMNS}\n1,nan,100,\n2,0.1,100,\n', 'line 2'),
    (f'{COLUMNS}\n1,0,100,\n4000000000,0.1,100,\n2000000000,0.2,100,\n', 'expected at least 2 of at most 4,000,000'),
    (f'{COLUMNS}\n1,0.5,100,\n2,0.5,100,\n', 'lasts no time'),
])
def test_a_bad_trace_gets_one_sentence(tmp_path, content, expected):
    path = tmp_path / 'trace'
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        Impairment(trace=str(path))
    assert expected in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize('value', ['/nowhere/trace.csv', '/', '/dev/zero', 'a\0b', 7, None])
def test_what_is_no_file_is_refused(value):
    with pytest.raises(ValueError, match='trace'):
        Impairment(trace=value)


def test_what_a_side_writes_of_its_link_is_played_again(tmp_path):
    said = []
    writer = TraceWriter(str(tmp_path / 'traces'), 'uplink', lambda level, text: said.append(text))
    for number in range(100):
        if number % 5:
            writer(Arrivals('rover/left', 1, [number], 100, 50 + number * STEP, math.nan if number % 2 else 900 + number * STEP))
    writer.close()
    path, = (tmp_path / 'traces').iterdir()
    assert path.name == 'rover_left-uplink-0001.csv' and str(path) in said[0]
    trace = load_trace(str(path))
    assert trace.loss == pytest.approx(0.2, abs=0.01) and max(trace.delay[trace.delay >= 0]) < 1e-3


def test_the_trace_of_a_real_link_loses_as_it_did(tmp_path):
    trace = str(Path(__file__).parent / 'rover-uplink.csv')
    recorded = load_trace(trace)
    assert recorded.length_s == pytest.approx(12.2, abs=0.1) and recorded.loss == pytest.approx(0.219, abs=0.001)
    found = played(trace, recorded.sent[:-1].tolist(), began=0.0)
    assert sum(not delivered for delivered in found) / len(found) == pytest.approx(recorded.loss, abs=0.05)
    late = [delivered[0][0] - sent for sent, delivered in zip(recorded.sent.tolist(), found, strict=False) if delivered]
    assert min(late) >= 0.0 and 0.01 < sorted(late)[len(late) // 2] < 0.05


def test_traces_are_bounded_and_a_session_begins_a_new_file(tmp_path):
    writer = TraceWriter(str(tmp_path), 'uplink', lambda level, text: None, file_bytes=2000, files=3)
    for number in range(2000):
        writer(Arrivals('rover', number // 1500, [number], 100, number * STEP, number * STEP))
    writer.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3 and sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 * 2200
    again = TraceWriter(str(tmp_path), 'uplink', lambda level, text: None, files=3)
    again(Arrivals('rover', 9, [0], 100, 0.0))
    again.close()
    assert max(path.name for path in tmp_path.iterdir()) > names[-1]


def test_a_full_disk_ends_the_trace_with_a_sentence_and_nothing_else(tmp_path, monkeypatch):
    said = []
    writer = TraceWriter(str(tmp_path), 'uplink', lambda level, text: said.append(text))
    (tmp_path / 'rover-uplink-0001.csv').symlink_to('/dev/full')
    monkeypatch.setattr(Path, 'iterdir', lambda folder: iter(()))       # so that this is the file that is begun
    for number in range(400):
        writer(Arrivals('rover', 1, [number], 100, number * 0.1, number * 0.1))
    assert sum('no longer written' in text for text in said) == 1 and 'No space left' in said[-1]


def test_the_simulator_plays_a_trace(tmp_path):
    trace = csv(tmp_path / 'a.csv', [0.0, None] * 100)
    simulator = LinkSimulator(('127.0.0.1', 0), ('127.0.0.1', 9), uplink=Impairment(trace=trace))
    assert simulator.impairment('uplink').trace == trace
