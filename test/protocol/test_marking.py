"""Marks for ECN: taken off where a path drops what is marked, kept where it only loses much or is silent for a while."""

import pytest

from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.events import AnswerArrived, LinkLost, MarksDropped

from .simulated_link import SMALL, Impairment, Simulation


def started(seed=1, config=None, **uplink):
    downlink = Impairment(loss=uplink.get('loss', 0.0), delay=uplink.get('delay', 0.002))
    run = Simulation(uplink=Impairment(**uplink), downlink=downlink, seed=seed)
    run.add_bridge(SMALL)
    edge = run.add_edge(SMALL, config)
    run.stream(edge, SMALL, 100)
    return run, edge


@pytest.mark.parametrize('delay', [0.002, 0.15, 0.4])
@pytest.mark.parametrize('loss', [0.0, 0.3])
def test_a_path_that_drops_what_is_marked_is_found_out_and_nothing_is_marked_any_more(delay, loss):
    run, edge = started(drops_marked=True, delay=delay, loss=loss)
    run.run(4.0 + 20 * delay)
    assert [event.dropped for event in run.of(MarksDropped)] == [True]
    assert edge.connected and not edge.marking.on
    run.run(10.0 - 20 * delay)
    run.stream(edge, SMALL, 20, first_id=1000)
    before = len(run.of(AnswerArrived))
    run.run(3.0)
    assert len(run.of(AnswerArrived)) - before >= (19 if delay < 0.2 else 0)      # the deadline is 0.5 s


def test_a_path_that_drops_nothing_marked_until_the_robot_roams():
    run, edge = started()
    run.run(2.0)
    assert edge.marking.on
    run.uplink.drops_marked = True
    run.run(2.5)
    assert run.of(MarksDropped) and edge.connected and not run.of(LinkLost)
    answered = [when for when, _, event in run.events if isinstance(event, AnswerArrived)]
    assert max(later - earlier for earlier, later in zip(answered, answered[1:], strict=False)) <= 1.3


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('loss', [0.3, 0.6, 0.8])
def test_a_radio_that_loses_much_does_not_drop_what_is_marked(seed, loss):
    run, edge = started(seed, loss=loss)
    run.run(12.0)
    assert not run.of(MarksDropped)


@pytest.mark.parametrize('silent', [0.5, 0.9, 3.0])
def test_a_path_that_is_silent_for_a_while_does_not_drop_what_is_marked(silent):
    run, edge = started()
    for _ in range(3):
        run.run(1.5)
        run.uplink.loss = 1.0
        run.run(silent)
        run.uplink.loss = 0.0
    run.run(1.5)
    assert not run.of(MarksDropped) and edge.connected and edge.marking.on


def test_a_later_session_tries_again_and_says_so():
    run, edge = started(drops_marked=True)
    run.run(3.0)
    run.uplink.drops_marked = False
    run.uplink.loss = 1.0
    run.run(2.0)
    run.uplink.loss = 0.0
    run.run(1.0)
    assert edge.connected and not edge.marking.on       # too soon
    run.run(60.0)
    run.uplink.loss = 1.0
    run.run(2.0)
    run.uplink.loss = 0.0
    run.run(1.0)
    assert edge.marking.on and [event.dropped for event in run.of(MarksDropped)] == [True, False]


def test_whoever_does_not_wish_marks_has_none():
    run, edge = started(config=EdgeConfig(ecn=False))
    run.run(2.0)
    assert edge.connected and not edge.marking.on
