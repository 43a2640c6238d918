"""The choice of how a frame is sent: exact tokens on a clean link, coarse ones in many copies on a bad one."""

import math

import numpy as np
import pytest
import torch

from evitif.channel import arrivals
from evitif.model.errors import ArtifactError
from evitif.pipeline.rate_table import RateTable, patches_missing
from evitif.pipeline.sending_choice import NO_ANSWER, SendingChoice, Setting
from evitif.protocol.wire.parameters import StreamParameters
from evitif_lab.loss_patterns import PacketLoss

TABLE = RateTable({'int8': 0.0, 'int4': 0.002, 'klt2': 0.004, 'klt1': 0.012, 'klt0.5': 0.05},
                  ((0.0, 0.0), (0.1, 0.01), (0.4, 0.1), (0.8, 0.4), (1.0, 0.8)))
COPIES = {'int8': 1, 'int4': 2, 'klt2': 5, 'klt1': 10, 'klt0.5': 16}
CHOICE = SendingChoice(TABLE, [Setting(kind, copies, 1.0, 24, 10_000) for kind, copies in COPIES.items()])


def choose(packet_error_rate, mean_burst=math.nan, present=None):
    before = next((setting for setting in CHOICE.settings if setting.quantisation == present), None)
    return CHOICE.choose(math.inf, packet_error_rate, mean_burst, before).quantisation


def test_the_worse_the_link_the_coarser_the_tokens():
    chosen = [choose(rate) for rate in (0.0, 0.1, 0.5, 0.8, 0.95)]
    assert chosen == ['int8', 'int4', 'klt2', 'klt1', 'klt0.5']


@pytest.mark.parametrize('rate, burst', [(0.3, 1), (0.6, 1), (0.9, 1), (0.3, 8), (0.6, 8), (0.8, 8)])
def test_the_expected_cost_is_what_the_real_packets_cost_on_average(rate, burst):
    parameters = StreamParameters(
        model='m', fingerprint='a' * 64, cut=4, quantisation='klt1', image_size=(32, 32), tokens=65, prefix_tokens=1,
        grid=(8, 8), channels=192, groups=1, row_bytes=24, classes=10, code='b' * 64)
    shares, lost = zip(*TABLE.lost, strict=True)
    patterns = {kind: PacketLoss(parameters, patch_copies=copies) for kind, copies in COPIES.items()}
    choice = SendingChoice(TABLE, [Setting(kind, pattern.patch_copies, 1.0, pattern.packets, 0) for kind, pattern in patterns.items()])
    for (kind, pattern), expected in zip(patterns.items(), choice.costs(rate, burst if burst > 1 else math.nan), strict=True):
        run = pattern.run(torch.full((6000,), rate), burst, torch.Generator().manual_seed(0))
        missing = 1 - pattern.received_tokens(run.arrived)[:, 1:].float().mean(1)
        costs = TABLE.coding[kind] + np.interp(missing, shares, lost)
        spared = run.unanswerable * (NO_ANSWER - costs[run.arrived.sum(1) == 1].mean()) if run.unanswerable else 0.0
        assert expected == pytest.approx(costs.mean() + spared, abs=0.01, rel=0.1)


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


def test_as_many_arrive_as_should_and_independent_losses_are_binomial():
    for p, burst in ((0.0, math.nan), (0.3, math.nan), (0.3, 8.0), (0.9, 12.0), (1.0, 5.0)):
        table = arrivals(p, burst, 30)
        assert np.allclose(table.sum(1), 1) and np.allclose(table @ np.arange(31), np.arange(31) * (1 - p), atol=0.05)
    binomial = [math.comb(10, k) * 0.5**10 for k in range(11)]
    assert np.allclose(arrivals(0.5, math.nan, 12)[10, :11], binomial) and np.allclose(arrivals(0.5, 1.2, 12)[10, :11], binomial)
    assert arrivals(0.3, 8.0, 24)[24, 0] > 100 * arrivals(0.3, math.nan, 24)[24, 0]
    assert arrivals(0.3, 8.0, 10)[10, 0] == pytest.approx(0.3 * (7 / 8)**9, rel=0.02)


def test_what_is_missing_is_what_no_packet_of_those_that_came_carried():
    for copies, scattered, in_a_row in ((1, [1, 0.75, 0.5, 0.25, 0], [1, 0.75, 0.5, 0.25, 0]),
                                        (2, [1, 1 / 2, 1 / 6, 0, 0], [1, 0.5, 0, 0, 0]),
                                        (9, [1, 0, 0, 0, 0], [1, 0, 0, 0, 0])):      # the last: in every packet
        found = patches_missing(copies, 4)
        assert np.allclose(found[0], scattered) and np.allclose(found[1], in_a_row)


def test_a_description_without_the_measurement_gives_no_table():
    assert RateTable.of({}) is None
    table = RateTable.of({'figures': {'accuracy_cost': {'coding': {'klt1': 0.1}, 'lost': [[0.0, 0.0], [1.0, 0.8]]}, 'seconds': 3.0}})
    assert table == RateTable({'klt1': 0.1}, ((0.0, 0.0), (1.0, 0.8)))
    costs = SendingChoice(table, [Setting('klt1', 1, 0.5, 24, 100)]).costs(0.0)
    assert costs[0] == pytest.approx(0.5)
    with pytest.raises(ArtifactError, match='expected accuracy_cost with a number for each rate'):
        RateTable.of({'figures': {'accuracy_cost': {'coding': {'klt1': 'little'}, 'lost': []}}})
