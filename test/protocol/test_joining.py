"""Frames of several devices joined by their stamps, in simulated time."""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.bridge.joining import JOINTS_IN_FLIGHT, PATIENCE, Joiner, JoiningEndpoint
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.events import FrameLate, FramesJoined, RobotConnected, RobotRefused, StampRefused
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.frames.reassembly import ORDER_MEMORY_S, ReceivedFrame
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire.link_names import group_of, link_name, objection_to_name
from evitif.protocol.wire.parameters import StreamParameters

from .simulated_link import PARAMETERS, Impairment, Simulation

DEADLINE = 0.1
PERIOD = 0.05


def frame_of(session_id: int, stamp: int, arrival: float) -> ReceivedFrame:
    return ReceivedFrame(session_id, '', stamp % 2**32, stamp, 'camera', np.zeros((1, 4), np.uint8), np.ones(1, bool), 1, 1, 40, 0.0,
                         arrival, arrival, True, 'int8', 1)


@dataclass
class Joined:
    at: float
    event: FramesJoined
    life: int           # of the group, which begins anew when its last device has left


class Timeline:
    """A joiner whose timer is heeded to the moment."""

    def __init__(self):
        self.joiner, self.now, self.joined, self.late, self.refused, self.lives = Joiner(DEADLINE), 0.0, [], [], [], Counter()

    def until(self, now: float) -> None:
        while (timer := self.joiner.get_timer()) is not None and timer <= now:
            self.now = max(self.now, timer)
            self.joiner.handle_timer(self.now)
            self._take()
        self.now = max(self.now, now)

    def frame(self, session_id: int, stamp: int, at: float) -> None:
        self.until(at)
        self.joiner.receive(frame_of(session_id, stamp, self.now), self.now)
        self._take()

    def leave(self, session_id: int, at: float) -> None:
        self.until(at)
        groups = set(self.joiner._groups)
        self.joiner.leave(session_id, self.now)
        self._take()
        self.lives.update(groups - set(self.joiner._groups))

    def _take(self) -> None:
        while (event := self.joiner.next_joint()) is not None:
            if isinstance(event, FrameLate):
                self.late.append(event)
            elif isinstance(event, StampRefused):
                self.refused.append(event)
            else:
                self.joined.append(Joined(self.now, event, self.lives[event.robot]))


def run(lags: dict[str, float | None], frames: int = 20, timeline: Timeline | None = None, first: int = 0) -> list[tuple[float, set[str]]]:
    """Devices that deliver every image after their lags, None never: how long each joint frame took, and whose it was."""
    if timeline is None:
        timeline = Timeline()
        for session_id, device in enumerate(lags):
            timeline.joiner.join('robot', device, session_id)
    arrivals = sorted((stamp * PERIOD + lag, session_id, stamp) for stamp in range(first, first + frames)
                      for session_id, lag in enumerate(lags.values()) if lag is not None)
    begin = len(timeline.joined)
    for at, session_id, stamp in arrivals:
        timeline.frame(session_id, stamp, at)
    timeline.until(timeline.now + DEADLINE)
    return [(joint.at - joint.event.capture_stamp_ns * PERIOD, set(joint.event.frames)) for joint in timeline.joined[begin:]]


def test_what_all_devices_delivered_is_handed_on_at_once():
    assert run({'a': 0.001, 'b': 0.02, 'c': 0.03}) == [(pytest.approx(0.03), {'a', 'b', 'c'})] * 20


def test_a_silent_device_costs_a_few_deadlines_and_then_nothing():
    waits = run({'a': 0.001, 'b': 0.02, 'c': None})
    assert all(devices == {'a', 'b'} for _, devices in waits)
    assert [wait for wait, _ in waits[:PATIENCE]] == [pytest.approx(0.001 + DEADLINE)] * PATIENCE
    assert [wait for wait, _ in waits[-10:]] == [pytest.approx(0.02)] * 10


def test_a_device_that_is_slower_than_the_deadline_is_counted_and_holds_nobody_up():
    timeline = Timeline()
    for session_id, device in enumerate('ab'):
        timeline.joiner.join('robot', device, session_id)
    waits = run({'a': 0.001, 'b': 0.13}, timeline=timeline)
    assert [wait for wait, _ in waits[-10:]] == [pytest.approx(0.001)] * 10
    assert timeline.joiner.counts['late'] >= 18
    assert [(late.robot, late.frame.session_id) for late in timeline.late] == [('robot', 1)] * timeline.joiner.counts['late']
    answered = {joint.event.capture_stamp_ns for joint in timeline.joined if 'b' not in joint.event.frames}
    assert {late.frame.capture_stamp_ns for late in timeline.late} == answered        # none of them is left without an answer


def test_a_device_that_comes_back_is_waited_for_again():
    timeline = Timeline()
    for session_id, device in enumerate('ab'):
        timeline.joiner.join('robot', device, session_id)
    assert run({'a': 0.001, 'b': None}, timeline=timeline)[-1][1] == {'a'}
    waits = run({'a': 0.001, 'b': 0.04}, timeline=timeline, first=25)      # behind the joint frame, but within the deadline
    assert waits[0] == (pytest.approx(0.001), {'a'})
    assert waits[1:] == [(pytest.approx(0.04), {'a', 'b'})] * 19


def test_a_device_that_leaves_is_not_waited_for_and_what_it_had_sent_is_used():
    timeline = Timeline()
    for session_id, device in enumerate('abc'):
        timeline.joiner.join('robot', device, session_id)
    timeline.frame(0, 1, 0.0)
    timeline.frame(2, 1, 0.01)
    timeline.leave(2, 0.015)
    timeline.frame(1, 1, 0.02)
    timeline.frame(0, 2, 0.05)
    timeline.frame(1, 2, 0.06)
    assert [(joint.at, set(joint.event.frames), set(joint.event.connected)) for joint in timeline.joined] == [
        (0.02, set('abc'), set('ab')), (0.06, set('ab'), set('ab'))]


def test_the_last_one_to_leave_takes_the_group_along():
    timeline = Timeline()
    timeline.joiner.join('robot', 'a', 1)
    timeline.joiner.join('robot', 'b', 2)
    timeline.frame(1, 5, 0.0)
    timeline.leave(2, 0.01)
    timeline.leave(1, 0.02)
    assert len(timeline.joined) == 1
    assert timeline.joiner.get_timer() is None
    timeline.joiner.receive(frame_of(1, 6, 0.03), 0.03)
    assert timeline.joiner.counts['late'] == 1 and timeline.joiner.next_joint() is None


def test_a_restarted_device_s_newest_frame_is_the_one_that_is_used_and_its_former_session_is_forgotten():
    timeline = Timeline()
    timeline.joiner.join('robot', 'a', 1)
    timeline.joiner.join('robot', 'b', 2)
    timeline.frame(1, 5, 0.0)
    timeline.joiner.join('robot', 'a', 3)
    timeline.leave(1, 0.01)
    timeline.frame(3, 5, 0.02)
    timeline.frame(2, 5, 0.03)
    (joint,) = timeline.joined
    assert {device: frame.session_id for device, frame in joint.event.frames.items()} == {'a': 3, 'b': 2}
    assert joint.event.connected == {'a', 'b'}


def test_a_camera_whose_clock_was_set_back_gets_through_after_a_silence():
    timeline = Timeline()
    timeline.joiner.join('robot', 'a', 1)
    timeline.frame(1, 10**9, 0.0)
    timeline.frame(1, 5, 0.5)
    timeline.frame(1, 6, 0.1 + ORDER_MEMORY_S)
    assert [joint.event.capture_stamp_ns for joint in timeline.joined] == [10**9, 6]


def test_groups_do_not_wait_for_each_other():
    timeline = Timeline()
    for session_id, name in enumerate(('one', 'two')):
        timeline.joiner.join(name, 'a', session_id)
    timeline.joiner.join('two', 'b', 2)
    timeline.frame(0, 7, 0.0)
    timeline.frame(1, 7, 0.0)
    assert [(joint.event.robot, set(joint.event.frames)) for joint in timeline.joined] == [('one', {'a'})]


def test_a_link_s_name_has_its_device_s_in_it():
    assert link_name('rover', 'left') == 'rover.left' and group_of('rover.left', 'left') == 'rover'
    assert link_name('rover', '') == group_of('rover', '') == 'rover'


@pytest.mark.parametrize('name', ['rover', 'rover.right', '.left', 'left', 'roverleft'])
def test_a_name_that_does_not_say_which_device_it_is_cannot_be_that_device_s(name):
    assert objection_to_name(name, 'left') == f'device: the edge is left, and its name on the link is {name}; expected <robot>.left'
    assert objection_to_name('rover.left', 'left') == objection_to_name(name, '') == ''


def deliver(timeline: Timeline, stamps: dict[int, list[int | None]], period: float = PERIOD) -> None:
    """Each session's stamps, one after the other; frames are numbered as they are sent."""
    for number, at_once in enumerate(zip(*stamps.values(), strict=True)):
        for session_id, stamp in zip(stamps, at_once):
            if stamp is not None:
                timeline.until(number * period)
                timeline.joiner.receive(replace(frame_of(session_id, stamp, timeline.now), frame_id=number), timeline.now)
                timeline._take()


@pytest.mark.parametrize('stamps', [[0] * 40, [5 * 10**9 + (k // 20) * 10**9 for k in range(40)]])
def test_an_image_whose_stamp_an_earlier_one_had_is_not_told_the_other_s_answer(stamps):
    timeline = Timeline()
    for session_id, device in enumerate('abc'):
        timeline.joiner.join('robot', device, session_id)
    deliver(timeline, dict.fromkeys(range(3), stamps))
    images = [joint.event.frames['a'].frame_id for joint in timeline.joined]
    assert images == [0] if stamps[0] == 0 else images == [0, 20]
    assert not timeline.late
    refused = timeline.refused
    assert len(refused) == 3 * (40 - len(images)) == timeline.joiner.counts['refused']
    first = '0.000000000' if stamps[0] == 0 else '5.000000000'
    assert refused[0].reason.startswith(f'device a: stamp {first} s is that of more than one image; expected')
    assert {event.device for event in refused} == set('abc')


@pytest.mark.parametrize('order', ['abc', 'cab', 'bca'])
@pytest.mark.parametrize('apart', [3600 * 10**9, -3600 * 10**9, 2 * 10**9])
def test_a_device_whose_clock_is_another_one_does_not_make_the_others_late(order, apart):
    timeline = Timeline()
    sessions = {device: number for number, device in enumerate(order)}
    for device in order:
        timeline.joiner.join('robot', device, sessions[device])
    stamps = [10**13 + number * 50 * 10**6 for number in range(100)]
    deliver(timeline, {sessions['a']: stamps, sessions['b']: stamps, sessions['c']: [stamp + apart for stamp in stamps]})
    together = [joint.event.capture_stamp_ns for joint in timeline.joined if set(joint.event.frames) == {'a', 'b'}]
    assert together[-50:] == stamps[-50:]
    assert {event.device for event in timeline.refused} == {'c'}
    said = re.search(r's is ([\d.]+) s (ahead of|behind) device [ab]', timeline.refused[-1].reason)
    assert float(said[1]) == pytest.approx(abs(apart) / 1e9, abs=0.1) and said[2] == ('ahead of' if apart > 0 else 'behind')


def test_of_two_devices_that_disagree_the_first_is_believed_and_the_other_back_as_soon_as_they_agree():
    timeline = Timeline()
    timeline.joiner.join('robot', 'a', 0)
    timeline.joiner.join('robot', 'b', 1)
    stamps = [10**13 + number * 50 * 10**6 for number in range(100)]
    deliver(timeline, {0: stamps, 1: [stamp + 60 * 10**9 for stamp in stamps[:60]] + stamps[60:]})
    assert {event.device for event in timeline.refused} == {'b'}
    assert [set(joint.event.frames) for joint in timeline.joined[-35:]] == [{'a', 'b'}] * 35


def test_all_devices_clocks_may_be_set_at_once():
    timeline = Timeline()
    for session_id, device in enumerate('abc'):
        timeline.joiner.join('robot', device, session_id)
    stamps = [10**13 + number * 50 * 10**6 + (3600 * 10**9 if number >= 30 else 0) for number in range(60)]
    deliver(timeline, dict.fromkeys(range(3), stamps))
    assert not timeline.refused and [joint.event.capture_stamp_ns for joint in timeline.joined] == stamps


@st.composite
def histories(draw):
    """(time, what, group and device, stamp): devices that join, leave, are restarted, and deliver late or never."""
    steps, now = [], 0.0
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.sampled_from([0.0, 0.001, 0.03, 0.2, 1.5]))
        steps.append((now, draw(st.sampled_from(['join', 'leave', 'frame', 'frame', 'frame', 'frame'])),
                      (draw(st.sampled_from(['one', 'two'])), draw(st.sampled_from('abc'))), draw(st.integers(0, 8))))
    return steps


@settings(deadline=None, max_examples=300)
@given(histories())
def test_whatever_happens_each_frame_is_joined_once_or_counted_in_time_in_order_and_in_bounded_memory(history):
    timeline, sessions, received = Timeline(), {}, []
    next_session = 1
    for at, what, who, stamp in history:
        if what == 'join':
            timeline.until(at)
            former = sessions.get(who)
            sessions[who] = next_session
            timeline.joiner.join(*who, next_session)
            if former:
                timeline.leave(former, at)
            next_session += 1
        elif what == 'leave' and who in sessions:
            timeline.leave(sessions.pop(who), at)
        elif what == 'frame' and who in sessions:
            received.append((sessions[who], stamp))
            timeline.frame(sessions[who], stamp, at)
        assert sum(len(group.joints) for group in timeline.joiner._groups.values()) <= 2 * JOINTS_IN_FLIGHT
    timeline.until(timeline.now + 1.0)
    assert timeline.joiner.get_timer() is None
    assert set(timeline.joiner._groups) == {group for group, _ in sessions}
    assert len(timeline.joiner._sessions) == len(sessions)
    used = [(frame.session_id, frame.capture_stamp_ns) for joint in timeline.joined for frame in joint.event.frames.values()]
    counts = timeline.joiner.counts
    assert set(used) <= set(received)
    assert len(used) + counts['late'] + counts['duplicate'] == len(received)
    assert {(late.robot, late.frame.capture_stamp_ns) for late in timeline.late} <= \
        {(joint.event.robot, joint.event.capture_stamp_ns) for joint in timeline.joined}
    assert len(timeline.joined) == counts['complete'] + counts['partial']
    last: dict[tuple[str, int], tuple[int, float]] = {}
    for joint in timeline.joined:
        event = joint.event
        assert event.frames and {frame.capture_stamp_ns for frame in event.frames.values()} == {event.capture_stamp_ns}
        assert joint.at <= min(frame.first_arrival for frame in event.frames.values()) + DEADLINE + 1e-9
        stamp, when = last.get((event.robot, joint.life), (-1, -math.inf))
        assert event.capture_stamp_ns > stamp or joint.at - when > ORDER_MEMORY_S
        last[event.robot, joint.life] = event.capture_stamp_ns, joint.at


def device_parameters(device: str, channels: int = 12) -> StreamParameters:
    return StreamParameters(
        model='pieces', fingerprint='ef' * 32, cut=0, quantisation='int8', image_size=(28, 28), tokens=3, prefix_tokens=0,
        grid=(1, 3), channels=channels, groups=1, row_bytes=channels + 4, classes=10, strategy='partition', device=device)


@pytest.fixture
def three_devices():
    """A bridge of three devices, of which one has more features than the others, over links that lose 30 %."""
    lossy = Impairment(loss=0.3)
    simulation = Simulation(uplink=lossy, downlink=lossy)
    streams = [device_parameters('a'), device_parameters('b', 20), device_parameters('c')]
    simulation.bridge = JoiningEndpoint(streams, 'bridge', random=Random(1))
    for number, parameters in enumerate(streams):
        simulation.add_edge(parameters, EdgeConfig(patch_copies=8), link_name('rover', parameters.device), ('10.0.0.1', number))
    simulation.run(1.0)
    return simulation


def send_to_all(simulation: Simulation, stamps: range) -> None:
    for stamp in stamps:
        for (_, number), edge in simulation.edges.items():
            rows = np.full((3, edge.parameters.row_bytes), stamp % 256, np.uint8)
            simulation.send(edge, TokenFrame(stamp, stamp, 'camera', rows, sent=np.array([number])))
        simulation.run(0.05)


def test_devices_are_joined_over_lossy_links_and_the_others_go_on_when_one_dies(three_devices):
    simulation = three_devices
    send_to_all(simulation, range(1, 41))
    dead = simulation.edges.pop(('10.0.0.1', 1))
    send_to_all(simulation, range(41, 81))
    joints = {joint.capture_stamp_ns: joint for joint in simulation.of(FramesJoined)}
    assert len(joints) >= 79 and dead.connected
    assert sum(set(joints[stamp].frames) == set('abc') for stamp in range(1, 41) if stamp in joints) >= 38
    assert all(joint.robot == 'rover' and set(joint.frames) <= set('ac') for stamp, joint in joints.items() if stamp > 41)
    for joint in joints.values():
        for device, frame in joint.frames.items():
            assert frame.rows.shape == (3, 24 if device == 'b' else 16)
            assert frame.received.tolist() == [device == 'a', device == 'b', device == 'c']
            assert (frame.rows[frame.received] == joint.capture_stamp_ns).all()


def test_another_partition_s_device_and_one_that_nobody_knows_are_refused(three_devices):
    other = replace(device_parameters('a'), fingerprint='00' * 32)
    stranger, splitter = replace(other, device='d'), replace(PARAMETERS)
    for number, (parameters, name) in enumerate([(other, 'other.a'), (stranger, 'other.d'), (splitter, 'splitter')]):
        three_devices.add_edge(parameters, robot=name, address=('10.0.0.2', number))
    three_devices.run(2.0)
    assert {event.robot: event.reason for event in three_devices.of(RobotRefused)} == {
        'other.a': f'fingerprint: the edge has {"00" * 32}, the bridge has {"ef" * 32}',
        'other.d': 'device: the edge is d, the bridge has a, b, c',
        'splitter': 'strategy: the edge has split, the bridge has partition'}


def test_a_key_opens_the_place_of_the_device_that_it_is_of_and_no_other():
    streams = [device_parameters('left'), device_parameters('right')]
    keys = {name: Key.random() for name in ('rover', 'rover.left', 'rover.right')}
    simulation = Simulation()
    simulation.bridge = JoiningEndpoint(streams, 'bridge', keys=RobotKeys(keys), random=Random(1))
    for number, (name, parameters) in enumerate([('rover.left', streams[0]), ('rover.right', streams[1]), ('rover', streams[0]),
                                                 ('rover.right', streams[0])]):
        simulation.add_edge(parameters, robot=name, address=('10.0.0.1', number), key=keys[name])
    simulation.run(3.0)
    assert [(event.robot, event.device) for event in simulation.of(RobotConnected)] == [('rover.left', 'left'), ('rover.right', 'right')]
    assert {(event.robot, event.reason) for event in simulation.of(RobotRefused)} == {
        (name, f'device: the edge is left, and its name on the link is {name}; expected <robot>.left') for name in ('rover', 'rover.right')}
    assert set(simulation.bridge.joiner._groups) == {'rover'}


def test_two_devices_with_one_identity_are_refused_and_one_that_was_restarted_is_not(three_devices):
    twin = three_devices.add_edge(device_parameters('a'), robot='rover.a', address=('10.0.0.9', 1))
    three_devices.run(1.0)
    (refused,) = three_devices.of(RobotRefused)
    assert refused.reason == 'robot: the name rover.a is in use by another edge at 10.0.0.1:0'
    del three_devices.edges['10.0.0.1', 0]
    three_devices.run(4.0)
    assert twin.connected
    assert [event.device for event in three_devices.of(RobotConnected)] == ['a', 'b', 'c', 'a']


def other_clock(lead_ns: int, first: bool, others: int, shared_every: int = 0, frames: int = 300, wild: tuple[int, ...] = ()):
    """Devices look at the same images; one of them says another time, but for each `shared_every`th image, or only for `wild` ones.

    Returns the timeline and the right devices' sessions.
    """
    timeline = Timeline()
    right = [*range(2, 2 + others)]
    for session in ([1, *right] if first else [*right, 1]):
        timeline.joiner.join('rover', f'device {session}', session)
    for k in range(frames):
        for session in ([1, *right] if first else [*right, 1]):
            off = k in wild if wild else not (shared_every and k % shared_every == 0)
            stamp = 10**12 + k * 50_000_000 + (lead_ns if session == 1 and off else 0)
            timeline.frame(session, stamp, 1.0 + PERIOD * k + 0.001 * session)
    timeline.until(1.0 + PERIOD * frames + 1.0)
    return timeline, right


def answered_of(timeline, session: int, since: float) -> int:
    return sum(f'device {session}' in joined.event.frames for joined in timeline.joined if joined.at >= since)


HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize('lead_ns', [HOUR_NS, -HOUR_NS, 917_000_000, 317_000_000, -317_000_000, 170_000_000])
@pytest.mark.parametrize('first', [True, False])
@pytest.mark.parametrize('others', [2, 3])
def test_a_clock_that_differs_makes_no_other_device_late_for_good(lead_ns, first, others):
    timeline, right = other_clock(lead_ns, first, others)
    for session in right:
        assert answered_of(timeline, session, 6.0) >= 199
    assert {(refused.device, refused.session_id) for refused in timeline.refused} == {('device 1', 1)}


@pytest.mark.parametrize('lead_ns', [HOUR_NS, -HOUR_NS, 5 * 10**9])
@pytest.mark.parametrize('first', [True, False])
@pytest.mark.parametrize(('others', 'shared_every'), [(1, 2), (2, 2), (2, 7), (3, 20)])
def test_nor_does_one_that_is_right_now_and_then(lead_ns, first, others, shared_every):
    timeline, right = other_clock(lead_ns, first, others, shared_every)
    for session in right:
        assert answered_of(timeline, session, 3.0) >= 259
    assert len(timeline.joiner._groups['rover'].apart) <= JOINTS_IN_FLIGHT


@pytest.mark.parametrize('first', [True, False])
def test_one_wild_stamp_costs_its_own_frame(first):
    timeline, right = other_clock(HOUR_NS, first, 2, wild=(100, 200))
    assert all(answered_of(timeline, session, 0.0) == 300 for session in (1, *right))
    assert not timeline.refused and timeline.joiner.counts['late'] == 0
    assert sum(len(joined.event.frames) == 3 for joined in timeline.joined) == 298
