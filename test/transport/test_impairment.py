"""The impaired link in simulated time: statistics with fixed seeds, determinism, and bounds."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.transport.impairment import HEADER_BYTES, MAX_FLIPPED_BITS, ImpairedChannel, Impairment

PAYLOAD = bytes(range(200))


def fates(impairment, count, seed=1, interval=0.001):
    """What each of `count` datagrams became, and when it was offered."""
    channel = ImpairedChannel(impairment, seed)
    return channel, [channel.offer(PAYLOAD, number * interval) for number in range(count)]


def loss_runs(outcomes):
    return [len(list(run)) for lost, run in itertools.groupby(outcomes, key=lambda outcome: not outcome) if lost]


def test_a_perfect_link_delivers_everything_at_once_and_unchanged():
    channel, outcomes = fates(Impairment(), 100)
    assert outcomes == [[(number * 0.001, PAYLOAD)] for number in range(100)]
    assert channel.counters.delivered == channel.counters.received == 100
    assert channel.counters.bytes_delivered == channel.counters.bytes_received == 100 * len(PAYLOAD)
    assert channel.counters.lost == channel.counters.queue_dropped == 0


@pytest.mark.parametrize('loss', [0.0, 0.1, 0.3, 0.6, 0.9, 1.0])
def test_independent_loss_has_the_rate_and_the_runs_of_independent_trials(loss):
    count = 20_000
    channel, outcomes = fates(Impairment(loss=loss), count)
    # Four standard deviations of a binomial share.
    assert channel.counters.lost / count == pytest.approx(loss, abs=4 * math.sqrt(loss * (1 - loss) / count))
    if 0 < loss < 1:
        runs = loss_runs(outcomes)
        assert sum(runs) / len(runs) == pytest.approx(1 / (1 - loss), rel=0.08)


@pytest.mark.parametrize(('loss', 'burst_length'), [(0.1, 4.0), (0.3, 3.0), (0.6, 2.5), (0.6, 8.0), (0.6, 1.5)])
def test_bursts_have_the_loss_rate_and_the_mean_length_that_were_asked_for(loss, burst_length):
    count = 100_000
    channel, outcomes = fates(Impairment(loss=loss, burst_length=burst_length), count, seed=5)
    runs = loss_runs(outcomes)
    assert channel.counters.lost / count == pytest.approx(loss, rel=0.05)
    assert sum(runs) / len(runs) == pytest.approx(burst_length, rel=0.05)


@pytest.mark.parametrize(('setting', 'value', 'expected'), [
    ('loss', 1.1, 'from 0 to 1'),
    ('loss', -0.1, 'from 0 to 1'),
    ('loss', math.nan, 'from 0 to 1'),
    ('loss', True, 'from 0 to 1'),
    ('loss', '0.6', 'from 0 to 1'),
    ('burst_length', 0.5, '1 or more'),
    ('delay_s', -1.0, 'seconds from 0 to 60'),
    ('jitter_s', math.inf, 'seconds from 0 to 60'),
    ('corrupt', 2, 'from 0 to 1'),
    ('rate_bit_s', 10, '0 for unlimited'),
    ('queue_s', -0.1, 'seconds from 0 to 60'),
])
def test_a_bad_setting_is_refused_naming_it_the_value_and_the_range(setting, value, expected):
    with pytest.raises(ValueError) as error:
        Impairment(**{setting: value})
    message = str(error.value)
    assert setting in message and repr(value) in message and expected in message


@pytest.mark.parametrize(('loss', 'burst_length', 'expected'), [
    (0.6, 1.4, '1.5 or more'), (0.9, 5.0, '9 or more'), (1.0, 3.0, 'loss below 1'),
])
def test_a_burst_length_that_no_chain_has_is_refused_saying_which_would_do(loss, burst_length, expected):
    with pytest.raises(ValueError, match=expected):
        Impairment(loss=loss, burst_length=burst_length)


settings = st.builds(
    Impairment,
    loss=st.floats(0, 0.9), burst_length=st.sampled_from([1.0, 9.0, 20.0]), delay_s=st.floats(0, 0.1),
    jitter_s=st.floats(0, 0.05), reorder=st.floats(0, 1), duplicate=st.floats(0, 1), corrupt=st.floats(0, 1),
    rate_bit_s=st.sampled_from([0.0, 100e3, 5e6]), queue_s=st.floats(0, 0.2),
)
traffic = st.lists(st.tuples(st.binary(max_size=60), st.floats(0, 0.02)), max_size=60)


def play(channel, packets):
    now, result = 0.0, []
    for data, pause in packets:
        now += pause
        result.append((now, channel.offer(data, now)))
    return result


def test_the_shortest_burst_that_a_loss_rate_allows_is_taken():
    assert Impairment(loss=0.9, burst_length=9.0).burst_length == 9.0
    with pytest.raises(ValueError, match='expected 9 or more'):
        Impairment(loss=0.9, burst_length=8.9)


@given(settings, traffic, st.integers())
def test_the_same_seed_and_datagrams_give_the_same_fate_and_every_datagram_is_accounted_for(impairment, packets, seed):
    channel, again = ImpairedChannel(impairment, seed), ImpairedChannel(impairment, seed)
    outcomes = play(channel, packets)
    assert outcomes == play(again, packets)
    assert channel.counters == again.counters

    counters = channel.counters
    assert counters.received == len(packets)
    assert counters.received - counters.lost - counters.queue_dropped + counters.duplicated == counters.delivered
    assert counters.delivered == sum(len(delivered) for _, delivered in outcomes)
    for (data, _), (now, delivered) in zip(packets, outcomes, strict=True):
        assert len(delivered) <= 2
        assert all(deliver_at >= now + impairment.delay_s and len(copy) == len(data) for deliver_at, copy in delivered)


@given(settings, traffic)
def test_without_reordering_nothing_overtakes(impairment, packets):
    channel = ImpairedChannel(dataclasses.replace(impairment, reorder=0.0), 3)
    times = [deliver_at for _, delivered in play(channel, packets) for deliver_at, _ in delivered]
    assert times == sorted(times)


def test_other_seeds_lose_other_datagrams():
    lost = [tuple(not outcome for outcome in fates(Impairment(loss=0.5), 64, seed)[1]) for seed in (1, 2)]
    assert lost[0] != lost[1]


def test_which_datagrams_are_lost_does_not_depend_on_the_other_settings():
    plain = [not outcome for outcome in fates(Impairment(loss=0.4), 500)[1]]
    messy = Impairment(loss=0.4, delay_s=0.1, jitter_s=0.1, reorder=0.5, duplicate=0.5, corrupt=0.5)
    assert [not outcome for outcome in fates(messy, 500)[1]] == plain


def test_corruption_flips_a_few_bits_and_duplicates_are_counted():
    impairment = Impairment(corrupt=0.25, duplicate=0.1)
    channel, outcomes = fates(impairment, 8000)
    changed = [delivered[0][1] for delivered in outcomes if delivered[0][1] != PAYLOAD]
    assert len(changed) == channel.counters.corrupted
    assert channel.counters.corrupted / 8000 == pytest.approx(0.25, abs=0.02)
    assert channel.counters.duplicated / 8000 == pytest.approx(0.1, abs=0.015)
    flipped = {sum((a ^ b).bit_count() for a, b in zip(PAYLOAD, data, strict=True)) for data in changed}
    assert flipped == set(range(1, MAX_FLIPPED_BITS + 1))


def test_an_empty_datagram_cannot_be_corrupted():
    channel = ImpairedChannel(Impairment(corrupt=1.0))
    assert channel.offer(b'', 0.0) == [(0.0, b'')]
    assert channel.counters.corrupted == 0


def test_delay_and_jitter_lie_in_their_range():
    impairment = Impairment(delay_s=0.02, jitter_s=0.01)
    _, outcomes = fates(impairment, 4000, interval=0.1)      # far apart, so that keeping the order changes nothing
    delays = [delivered[0][0] - number * 0.1 for number, delivered in enumerate(outcomes)]
    assert min(delays) >= 0.02 - 1e-9 and max(delays) <= 0.03 + 1e-9
    assert sum(delays) / len(delays) == pytest.approx(0.025, abs=0.0005)


def test_a_reordered_datagram_is_overtaken_by_those_of_the_next_milliseconds():
    _, outcomes = fates(Impairment(reorder=0.1, reorder_delay_s=0.0035), 2000)
    times = [delivered[0][0] for delivered in outcomes]
    held = [number for number, time in enumerate(times) if time > number * 0.001 + 1e-9]
    assert len(held) / 2000 == pytest.approx(0.1, abs=0.03)
    alone = [n for n in held if not {n + 1, n + 2, n + 3} & set(held) and n + 4 < 2000]
    assert alone and all(times[n + 3] < times[n] < times[n + 4] for n in alone)


def test_the_rate_spaces_datagrams_by_their_size_with_headers():
    channel = ImpairedChannel(Impairment(rate_bit_s=1e6, queue_s=1.0))
    spacing = 8 * (len(PAYLOAD) + HEADER_BYTES) / 1e6
    times = [channel.offer(PAYLOAD, 0.0)[0][0] for _ in range(10)]
    assert times == pytest.approx([spacing * (number + 1) for number in range(10)])
    assert channel.offer(PAYLOAD, 5.0)[0][0] == pytest.approx(5.0 + spacing)


def test_the_queue_drops_what_would_wait_too_long_and_recovers():
    channel = ImpairedChannel(Impairment(rate_bit_s=1e6, queue_s=0.010))
    spacing = 8 * (len(PAYLOAD) + HEADER_BYTES) / 1e6
    outcomes = [channel.offer(PAYLOAD, 0.0) for _ in range(50)]
    accepted = 1 + math.floor(0.010 / spacing)
    assert [bool(outcome) for outcome in outcomes] == [True] * accepted + [False] * (50 - accepted)
    assert channel.counters.queue_dropped == 50 - accepted
    assert channel.counters.lost + channel.counters.queue_dropped == 50 - accepted
    assert channel.offer(PAYLOAD, 1.0)


def test_overload_delivers_at_the_rate():
    impairment = Impairment(rate_bit_s=1e6, queue_s=0.05)
    channel, outcomes = fates(impairment, 5000, interval=0.0005)      # 3.6 Mbit/s offered for 2.5 s
    assert channel.counters.delivered == pytest.approx(1e6 * 2.55 / 8 / (len(PAYLOAD) + HEADER_BYTES), rel=0.01)
    waits = [delivered[0][0] - number * 0.0005 for number, delivered in enumerate(outcomes) if delivered]
    assert max(waits) <= 0.05 + 8 * (len(PAYLOAD) + HEADER_BYTES) / 1e6 + 1e-9


def test_a_change_holds_from_the_next_datagram_on():
    channel = ImpairedChannel(Impairment(), 7)
    assert all(channel.offer(PAYLOAD, 0.0) for _ in range(100))
    channel.set_impairment(Impairment(loss=1.0))
    assert not any(channel.offer(PAYLOAD, 0.0) for _ in range(100))
    channel.set_impairment(Impairment(loss=0.6, burst_length=5.0))
    lost = sum(not channel.offer(PAYLOAD, 0.0) for _ in range(50_000))
    assert lost / 50_000 == pytest.approx(0.6, abs=0.03)
    channel.set_impairment(Impairment())
    assert all(channel.offer(PAYLOAD, 0.0) for _ in range(100))
