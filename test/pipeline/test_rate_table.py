"""The choice of how a frame is sent: exact tokens on a clean link, coarse ones in many copies on a bad one."""

import math

import pytest
import torch

from evitif.pipeline.rate_table import RateTable, patches_lost
from evitif.pipeline.sending_choice import SendingChoice, Setting
from evitif.protocol.packetiser import Packetiser
from evitif.protocol.parameters import StreamParameters
from evitif.recovery.loss_patterns import PacketLoss

TABLE = RateTable({'int8': 0.0, 'int4': 0.002, 'klt2': 0.004, 'klt1': 0.012, 'klt0.5': 0.05},
                  ((0.0, 0.0), (0.1, 0.01), (0.4, 0.1), (0.8, 0.6), (1.0, 2.0)))
COPIES = {'int8': 1, 'int4': 2, 'klt2': 5, 'klt1': 10, 'klt0.5': 16}
CHOICE = SendingChoice(TABLE, [Setting(kind, copies, 1.0, 24, 10_000) for kind, copies in COPIES.items()])


def choose(packet_error_rate, mean_burst=math.nan, present=None):
    before = next((setting for setting in CHOICE.settings if setting.quantisation == present), None)
    return CHOICE.choose(math.inf, packet_error_rate, mean_burst, before).quantisation


def test_the_worse_the_link_the_coarser_the_tokens():
    chosen = [choose(rate) for rate in (0.0, 0.1, 0.5, 0.8, 0.95)]
    assert chosen == ['int8', 'int4', 'klt2', 'klt1', 'klt0.5']


def test_bursts_ask_for_more_copies_than_independent_losses():
    order = list(COPIES)
    for rate in (0.2, 0.4, 0.6):
        assert order.index(choose(rate, 12.0)) >= order.index(choose(rate))
    assert any(choose(rate, 12.0) != choose(rate) for rate in (0.2, 0.4, 0.5, 0.6))


def test_the_present_choice_is_kept_while_little_is_to_be_won():
    rates = [index / 1000 for index in range(0, 950)]
    up, present = [], 'int8'
    for rate in rates:
        present = choose(rate, present=present)
        up.append(present)
    for rate, before in zip(reversed(rates), reversed(up), strict=True):
        assert choose(rate, present=before) == before        # no way back at the same rate
    assert choose(0.0, present='klt0.5') == 'int8'


def test_only_what_fits_is_chosen_and_the_smallest_where_nothing_does():
    settings = [Setting('int8', 1, 1.0, 24, 12_000), Setting('klt1', 10, 1.0, 24, 11_000), Setting('klt1', 1, 0.4, 4, 900)]
    choice = SendingChoice(TABLE, settings)
    assert [choice.choose(room, 0.0) for room in (20_000, 11_500, 5_000, 100)] == [settings[0], settings[1], settings[2], settings[2]]


def test_only_what_the_table_knows_is_chosen():
    choice = SendingChoice(TABLE, [Setting('fp16', 1, 1.0, 24, 100), Setting('klt2', 5, 1.0, 24, 10_000)])
    assert choice.choose(math.inf, 0.0).quantisation == 'klt2'
    with pytest.raises(ValueError, match='the table knows int8, int4'):
        SendingChoice(TABLE, [Setting('fp16', 1, 1.0, 24, 100)])


@pytest.mark.parametrize('rate, burst', [(0.3, 1), (0.6, 1), (0.3, 8), (0.6, 8), (0.8, 8)])
@pytest.mark.parametrize('copies', [2, 5])
def test_the_share_of_patches_lost_is_that_of_the_real_packets(rate, burst, copies):
    parameters = StreamParameters(
        model='m', fingerprint='a' * 64, cut=4, quantisation='klt1', image_size=(224, 224), tokens=196, prefix_tokens=0,
        grid=(14, 14), channels=192, groups=1, row_bytes=24, classes=10, code='b' * 64)
    pattern = PacketLoss(parameters, patch_copies=copies)
    run = pattern.run(torch.full((6000,), rate), burst, torch.Generator().manual_seed(0))
    lost = 1 - float(pattern.received_tokens(run.arrived).float().mean())
    predicted = patches_lost(rate, burst if burst > 1 else math.nan, copies, Packetiser(parameters, patch_copies=copies).packets())
    assert predicted == pytest.approx(lost, abs=0.03)


def test_nothing_and_everything():
    assert patches_lost(0.0, math.nan, 3, 24) == 0.0 and patches_lost(1.0, math.nan, 3, 24) == 1.0


def test_a_description_without_the_measurement_gives_no_table():
    assert RateTable.of({}) is None
    table = RateTable.of({'figures': {'klt1': {'training_divergence': 0.1}, 'seconds': 3.0,
                                      'omission_divergence': [[0.0, 0.0], [1.0, 2.0]]}})
    assert table == RateTable({'klt1': 0.1}, ((0.0, 0.0), (1.0, 2.0)))
    costs = SendingChoice(table, [Setting('klt1', 1, 0.5, 24, 100)]).costs(0.0)
    assert costs[0] == pytest.approx(1.1)
