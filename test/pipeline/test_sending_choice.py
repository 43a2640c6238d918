"""How a frame travels: the least divergence that the frame's share of the rate allows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from evitif.pipeline.rate_table import RateTable
from evitif.pipeline.sending_choice import FEWER_PACKETS_SAVE, SendingChoice, chosen_tokens, settings_of
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame
from evitif.protocol.rate.pacing import IP_UDP_BYTES
from evitif.protocol.wire.datagram import SEAL_BYTES
from evitif.protocol.wire.parameters import StreamParameters

PARAMETERS = StreamParameters(
    model='m', fingerprint='a' * 64, cut=4, quantisation='klt1', image_size=(32, 32), tokens=65, prefix_tokens=1, grid=(8, 8),
    channels=192, groups=1, row_bytes=24, classes=10, code='b' * 64,
    formats=(('int8', 196), ('int4', 100), ('klt2', 48), ('klt0.5', 12)))
OPTIONS = {'max_datagram_bytes': 1200, 'min_packets': 24, 'prefix_copies': 0}
SETTINGS = settings_of(PARAMETERS, **OPTIONS)
TABLE = RateTable({'int8': 0.0, 'int4': 0.002, 'klt2': 0.004, 'klt1': 0.012, 'klt0.5': 0.05},
                  ((0.0, 0.0), (0.1, 0.01), (0.4, 0.1), (0.8, 0.4), (1.0, 0.8)))
CHOICE = SendingChoice(TABLE, SETTINGS)


@pytest.mark.parametrize('seal', [0, SEAL_BYTES])
def test_the_bytes_of_a_setting_are_those_of_its_datagrams(seal):
    for setting in settings_of(PARAMETERS, **OPTIONS, seal_bytes=seal)[::7]:
        p = PARAMETERS.in_format(setting.quantisation)
        frame = TokenFrame(1, 2, 's' * 64, np.zeros((65, p.row_bytes), np.uint8), sent=chosen_tokens(p, setting.share))
        sent = Packetiser(p, patch_copies=setting.patch_copies, min_packets=setting.min_packets or 24).packetise(frame)
        assert len(sent) == setting.packets
        wire = sum(map(len, sent)) + (IP_UDP_BYTES + seal) * len(sent)
        assert setting.bytes <= wire <= 1.015 * setting.bytes         # packets may be filled up to one size


def test_no_setting_takes_more_than_int8_once():
    once = next(s.bytes for s in SETTINGS if (s.quantisation, s.patch_copies, s.share, s.min_packets) == ('int8', 1, 1.0, 0))
    assert max(setting.bytes for setting in SETTINGS) == once


def test_with_room_and_no_loss_tokens_are_exact_and_travel_once():
    chosen = CHOICE.choose(math.inf, 0.0)
    assert (chosen.quantisation, chosen.patch_copies, chosen.share) == ('int8', 1, 1.0)
    assert CHOICE.choose(math.inf, math.nan) == chosen


@pytest.mark.parametrize('loss', [0.0, 0.3, 0.8])
def test_the_choice_is_the_cheapest_that_fits_and_fewer_packets_have_to_save_a_fifth(loss):
    costs = CHOICE.costs(loss)
    for room in (2_500, 4_000, 6_000, 9_000, 14_000, 30_000):
        chosen = CHOICE.choose(room, loss)
        assert chosen.bytes <= room
        usual, fewer = ([cost for setting, cost in zip(CHOICE.settings, costs, strict=True)
                         if setting.bytes <= room and (setting.min_packets > 0) == few] for few in (False, True))
        cost = costs[CHOICE.settings.index(chosen)]
        assert cost <= min(usual) + 1e-12 and cost <= min(fewer) / FEWER_PACKETS_SAVE + 1e-12
        if chosen.min_packets:
            assert cost <= FEWER_PACKETS_SAVE * min(usual) + 1e-12


def test_a_low_rate_is_met_with_fewer_packets_of_all_the_patches_and_without_a_limit_there_are_as_many_as_ever():
    low = CHOICE.choose(2_500, 0.0)
    assert low.share == 1.0 and 0 < low.packets < 24
    for loss in (0.0, 0.1, 0.3, 0.6, 0.8, 0.95):
        assert CHOICE.choose(math.inf, loss).packets >= 24
    few, many = (min((s for s in SETTINGS if (s.quantisation, s.patch_copies, s.share) == ('klt1', 2, 1.0)), key=lambda s: sign * s.packets)
                 for sign in (1, -1))
    costs = CHOICE.costs(0.4, 6.0)
    assert costs[SETTINGS.index(few)] > costs[SETTINGS.index(many)]       # each loss is a greater part of the frame


def test_a_short_name_of_the_source_frame_leaves_room():
    for room in (2_000, 3_000, 5_000, 8_000):
        chosen = CHOICE.choose(room, 0.2, name_bytes=6)
        p = PARAMETERS.in_format(chosen.quantisation)
        frame = TokenFrame(1, 2, 'camera', np.zeros((65, p.row_bytes), np.uint8), sent=chosen_tokens(p, chosen.share))
        sent = Packetiser(p, patch_copies=chosen.patch_copies, min_packets=chosen.min_packets or 24).packetise(frame)
        assert sum(map(len, sent)) + IP_UDP_BYTES * len(sent) <= 1.015 * room
        costs = CHOICE.costs(0.2)
        assert costs[CHOICE.settings.index(chosen)] < costs[CHOICE.settings.index(CHOICE.choose(room, 0.2))]


def test_less_room_and_more_loss_mean_coarser_tokens_or_more_copies():
    sizes = [CHOICE.choose(room, 0.0).bytes for room in range(3_000, 30_000, 500)]
    assert sizes == sorted(sizes)
    assert CHOICE.choose(math.inf, 0.8).patch_copies > CHOICE.choose(math.inf, 0.3).patch_copies >= 1


def test_where_nothing_fits_the_smallest_is_sent_and_a_share_of_the_patches_is_an_answer_too():
    smallest = CHOICE.choose(10, 0.0)
    assert smallest.bytes == min(setting.bytes for setting in SETTINGS)
    assert smallest.share < 1 and len(chosen_tokens(PARAMETERS, smallest.share)) < PARAMETERS.tokens
    assert chosen_tokens(PARAMETERS, 1.0) is None


def test_the_present_setting_is_kept_while_little_is_to_be_won_and_it_fits():
    present = None
    changes = 0
    for loss in [0.30, 0.31, 0.30, 0.29, 0.30, 0.31] * 10:
        before, present = present, CHOICE.choose(12_000, loss, present=present)
        changes += before != present
    assert changes <= 2
    assert CHOICE.choose(present.bytes - 1, 0.3, present=present).bytes < present.bytes
    assert CHOICE.choose(math.inf, 0.0, present=CHOICE.choose(4_000, 0.8)).quantisation == 'int8'


def test_copies_that_were_set_by_hand_are_kept_and_a_table_of_other_quantisations_is_refused():
    assert {setting.patch_copies for setting in settings_of(PARAMETERS, **OPTIONS, patch_copies=2)} == {2}
    with pytest.raises(ValueError, match='the table knows fp16; expected one of the quantisations'):
        SendingChoice(replace(TABLE, coding={'fp16': 0.0}), SETTINGS)
