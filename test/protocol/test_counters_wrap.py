"""Counters on the wire have 32 bits: what is compared or subtracted is right past their end too."""

import pytest

from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.edge.session import EdgeSession
from evitif.protocol.events import AnswerArrived, LinkLost
from evitif.protocol.sealing import ratchet
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire.datagram import ReceiverReport

from .simulated_link import SMALL, Impairment, Simulation

END = 1 << 32
KEY = Key(bytes(range(32)))


def connected(key=None, **options):
    run = Simulation(**options)
    run.add_bridge(SMALL, keys=None if key is None else RobotKeys(default=key))
    edge = run.add_edge(SMALL, key=key)
    run.run(1.0)
    assert edge.connected
    return run, edge, run.bridge.sessions[edge.session_id]


def begin_at(monkeypatch, sequence: int) -> None:
    """Sessions begin as if so many datagrams had gone each way."""
    for kind in (EdgeSession, BridgeSession):
        def begun(session, *arguments, make=kind.__init__):
            make(session, *arguments)
            session._sequence = sequence
            session.tracker.highest = (sequence - 1) % END
            session.tracker.expected = session.tracker.received = sequence
        monkeypatch.setattr(kind, '__init__', begun)


@pytest.mark.parametrize('sent', [600, END - 1, END, END + 3, END + 600, 5 * END + 2])
@pytest.mark.parametrize('behind', [0, 2, 30])
def test_the_downlink_s_loss_is_that_of_the_report_however_much_was_sent_before(sent, behind):
    run, _, session = connected()
    session._sequence = sent
    session.tracker._mask &= ~0b111110      # more is lost on the way here, which tells nothing
    session.remote = ReceiverReport((sent - behind) % END, (sent - behind) * 7 // 10 % END, 0.3, 1.5)
    rate, burst = session.downlink_loss()
    assert rate == pytest.approx(0.3 + (0.3 * 0.7 / 512) ** 0.5) and burst == 1.5


def test_a_report_of_few_datagrams_still_counts_as_one():
    run, _, session = connected(uplink=Impairment(0.6), seed=2)
    session._sequence, session.remote = 10, ReceiverReport(8, 8, 0.0, 0.0)
    assert session.downlink_loss()[0] == session.tracker.packet_error_rate > 0.3


@pytest.mark.parametrize(('start', 'loss', 'key'), [(END - 200, 0.3, KEY), (END - 3, 0.4, None), (3 * END - 700, 0.0, KEY)])
def test_a_session_past_the_end_is_as_it_was_before(monkeypatch, start, loss, key):
    monkeypatch.setattr(ratchet, 'EPOCH_BITS', 64)      # else the receiver had to see each epoch
    figures = {}
    for begin in (1000, start):
        with monkeypatch.context() as patch:
            begin_at(patch, begin)
            run, edge, session = connected(key, uplink=Impairment(loss), downlink=Impairment(loss), seed=7)
            assert session._sequence > begin - (key is None)
            sent = run.stream(edge, SMALL, 60)
            run.run(7.0)
        assert not run.of(LinkLost) and len(sent) == 60
        assert begin == 1000 or session._sequence % END < 10_000 or start != END - 200      # both have passed it
        figures[begin] = (run.when(AnswerArrived), edge.uplink, session.downlink_loss(), edge.statistics, session.proved_at)
    assert repr(figures[1000]) == repr(figures[start])      # not a number is not equal to itself
    assert len(figures[start][0]) >= (60 if loss == 0.0 else 58)
