"""When an answer can no longer be expected, in simulated time."""

import numpy as np
import pytest

from evitif.protocol.edge.answer_times import LEAST_S, AnswerTimes
from evitif.protocol.edge.connection import EdgeConfig
from evitif.protocol.events import AnswerArrived, FrameExpired, FrameOverdue

from .simulated_link import SMALL, Impairment, Simulation

DEADLINE_S = 2.0


def connected(**options) -> Simulation:
    run = Simulation(**options)
    run.add_bridge(SMALL)
    run.add_edge(SMALL, EdgeConfig(answer_deadline_s=DEADLINE_S, link_timeout_s=5.0))
    run.run(0.5)
    return run


def stream(run: Simulation, frames: int, rate: float = 10.0, first_id: int = 0, wait: float = 0.0) -> list[int]:
    edge, = run.edges.values()
    sent = run.stream(edge, SMALL, frames, rate, first_id)
    run.run((frames - 1) / rate + wait)
    return sent


def since_sent(run: Simulation, kind, sent_at: float) -> float:
    return run.when(kind)[-1] - sent_at


@pytest.mark.parametrize('tail', [0.005, 0.15], ids=['as quick as may be', 'with a slow tail'])
def test_a_frame_without_an_answer_is_overdue_when_answers_have_long_come_and_expires_at_the_deadline(tail):
    run = connected(tail=tail)
    stream(run, 20, wait=1.0)
    run.uplink.loss = 1.0
    sent_at = run.now
    stream(run, 1, first_id=20, wait=DEADLINE_S + 0.1)
    assert [event.frame_id for event in run.of(FrameOverdue)] == [event.frame_id for event in run.of(FrameExpired)] == [20]
    assert since_sent(run, FrameExpired, sent_at) == pytest.approx(DEADLINE_S)
    assert max(0.99 * LEAST_S, tail) <= since_sent(run, FrameOverdue, sent_at) <= max(1.01 * LEAST_S, 1.5 * tail)


def test_the_answer_to_a_newer_frame_says_that_an_older_one_has_none():
    run = connected(tail=0.05)
    stream(run, 20, rate=30.0, wait=1.0)
    run.uplink.loss = 1.0
    stream(run, 1, rate=30.0, first_id=20, wait=1 / 30)
    run.uplink.loss = 0.0
    stream(run, 1, rate=30.0, first_id=21, wait=0.09)
    (when, _, answered), (again, _, overdue) = [entry for entry in run.events if isinstance(entry[2], (AnswerArrived, FrameOverdue))][-2:]
    assert (answered.sent.frame_id, overdue.frame_id) == (21, 20) and when == again


def test_before_the_first_answer_nothing_is_overdue():
    run = connected(downlink=Impairment())
    run.downlink.loss = 1.0
    stream(run, 5, wait=DEADLINE_S + 0.1)
    assert not run.of(FrameOverdue) and len(run.of(FrameExpired)) == 5


def test_a_path_that_gets_slower_is_learnt_from_answers_that_are_late():
    run = connected()
    stream(run, 20, wait=1.0)
    run.uplink.delay = run.downlink.delay = 0.2
    stream(run, 60, first_id=20, wait=1.0)
    overdue = [event.frame_id for event in run.of(FrameOverdue)]
    assert overdue and max(overdue) < 40
    assert [event.answer.frame_id for event in run.of(AnswerArrived)] == [*range(80)]


@pytest.mark.parametrize(('jitter', 'most'), [(0.05, 0.0), (0.15, 0.02), (0.3, 0.05)])
def test_answers_that_take_now_less_and_now_more_time_are_seldom_overdue(jitter, most):
    run = connected(seed=3, downlink=Impairment(jitter=jitter))
    sent = stream(run, 300, wait=1.0)
    assert len(run.of(AnswerArrived)) == len(sent) == 300
    assert len(run.of(FrameOverdue)) <= most * 300


def test_each_frame_is_overdue_at_most_once_and_not_after_its_outcome():
    run = connected(seed=5, uplink=Impairment(loss=0.4, burst=30.0, jitter=0.05), downlink=Impairment(loss=0.3, burst=10.0, jitter=0.2))
    sent = stream(run, 400, rate=30.0, wait=DEADLINE_S + 0.1)
    ended, overdue = [], []
    for _, _, event in run.events:
        if isinstance(event, FrameOverdue):
            assert event.frame_id not in ended and event.frame_id not in overdue
            overdue.append(event.frame_id)
        elif isinstance(event, (AnswerArrived, FrameExpired)):
            ended.append(event.sent.frame_id if isinstance(event, AnswerArrived) else event.frame_id)
    assert sorted(ended) == sent and {event.frame_id for event in run.of(FrameExpired)} <= {*overdue}


def test_the_wait_follows_mean_and_variation():
    times = AnswerTimes()
    assert times.longest_s == times.overtaken_s == np.inf
    for _ in range(50):
        times.add(0.2)
    assert times.longest_s == times.overtaken_s == pytest.approx(9 / 8 * 0.2, abs=0.001)
    for seconds in 25 * (0.1, 0.3):
        times.add(seconds)
    assert times.longest_s == pytest.approx(0.2 + 4 * 0.1, rel=0.1)
