"""What is made of the turns: figures, targets and the page. And, where there are namespaces, a short turn of some contestants."""

import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip('torch')
sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks.link import end_to_end, namespaces, robot
from benchmarks.link.conditions import Condition
from benchmarks.link.contestants import CONTESTANTS
from benchmarks.link.end_to_end_page import section
from benchmarks.link.processes import Process, ProcessError


def turn(latency, replaced=0, gives_up_s=3.0):
    return {'latency_ms': latency, 'compute_ms': [None if value is None else value / 2 for value in latency], 'replaced': replaced,
            'frames': len(latency) + replaced, 'agree': 1, 'gives_up_s': gives_up_s, 'robot_cpu': 0.1, 'bridge_cpu': 0.2}


def test_unanswered_images_are_the_longest_and_replaced_ones_only_not_answered():
    figures = end_to_end.figures_of([turn([10.0] * 6 + [300.0, None], replaced=2)])
    assert figures['images'] == 10 and figures['unanswered'] == 1 and figures['answered'] == 0.6
    assert figures['p50_ms'] == 10.0 and figures['p99_ms'] is None
    assert figures['link_ms'] == 5.0


def test_images_that_a_runtime_replaced_by_itself_are_not_counted_as_sent():
    replaced_unseen = turn([10.0, 20.0, None])
    replaced_unseen['replaced'] = 1         # among the three, and it does not say which
    figures = end_to_end.figures_of([replaced_unseen])
    assert figures['unanswered'] == 0 and figures['p99_ms'] == 20.0 and figures['answered'] == pytest.approx(2 / 3)


def entries(tcp_p99, ours=20.0):
    def figures(p99):
        return end_to_end.figures_of([turn([p99] * 10)])
    condition = {'loss': 0.2, 'delay_ms': 5, 'rate_mbit': 0, 'burst': 1}
    both = {'evitif': figures(ours), 'tcp-cubic': figures(tcp_p99)}
    return [{'group': group, 'model': 'small', 'rate': 20, 'condition': condition, 'name': '20 % loss, 5 ms', 'contestants': both}
            for group in (end_to_end.MAIN, end_to_end.ANSWERED)]


@pytest.mark.parametrize(('p99', 'holds'), [(20.0 * 57, True), (20.0 * 56, False), (None, True)])
def test_the_target_of_the_latency_is_judged_by_the_ratio_to_tcp(p99, holds):
    judged = end_to_end.targets_of(entries(p99))[0]
    assert judged['holds'] is holds and 'CUBIC' in judged['name']


def test_too_few_answers_by_the_deadline_miss_the_target():
    judged = end_to_end.targets_of(entries(3000.0, ours=201.0))[-1]
    assert judged['holds'] is False and judged['measured'].startswith('0.00 % of 10')


def test_the_page_names_every_contestant_that_was_measured_and_who_is_best(tmp_path):
    result = {'figures': {'conditions': entries(None), 'about': {}}, 'notes': ['A note.'], 'left_out': {'parity-webp': 'no zfec'}}
    page = section(result, tmp_path)
    assert 'evitif, as it is by default | 20.0 / 20.0' in page and '> 3000 / > 3000' in page and '**A note.**' in page
    assert 'WebP over UDP, ideal parity was left out: no zfec.' in page
    assert '| small model, 20 % loss, 5 ms | evitif, as it is by default | 20 | 20.0 |  |' in page


def test_a_turn_counts_the_first_answer_of_its_own_images_only():
    counted = robot.Turn()
    counted.submitted = {5: 0.0, 6: 0.0}
    counted.answered(4, 1, 0.0)
    counted.answered(5, 1, 0.0)
    first = counted.answers[5]
    counted.answered(5, 2, 0.0)
    assert counted.answers == {5: first}
    threading.Timer(0.05, counted.was_replaced, [6]).start()
    counted.wait(10.0)      # ends with the replaced one, long before
    assert counted.replaced == {6}


def test_a_process_that_ends_or_fails_is_told_in_a_sentence():
    ended = Process('benchmarks.link.not_there', [], {})
    with pytest.raises(ProcessError, match='the not_there process (has )?ended'):
        ended.ask('cpu')
    ended.close()
    serving = Process('benchmarks.link.bridge', [], {})
    try:
        with pytest.raises(ProcessError, match="bridge: KeyError: 'nobody'"):
            serving.ask('connect', contestant='nobody', condition={})
        assert serving.ask('cpu')['cpu_s'] > 0
    finally:
        serving.close()


def test_the_quick_form_has_a_part_of_everything_that_is_judged():
    quick, full = end_to_end.groups(True), end_to_end.groups(False)
    assert {group.name for group in quick} <= {group.name for group in full}
    main = {group.name: group for group in full}[end_to_end.MAIN]
    assert {0.05, 0.2} <= {condition.loss for group in quick if group.name == end_to_end.MAIN for condition in group.conditions}
    assert {condition.delay_ms for group in full for condition in group.conditions} == {0, 5, 20, 50}
    assert {condition.rate_mbit for group in full for condition in group.conditions} == {0, 5, 20, 100}
    assert {condition.loss for condition in main.conditions} == {0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.6}
    assert main.contestants == tuple(CONTESTANTS)


@pytest.mark.timeout(200)
def test_contestants_get_their_answers_over_a_delayed_link_and_nothing_is_left_behind(tmp_path):
    if reason := namespaces.unavailable():
        pytest.skip(reason)
    if not Path('/dev/net/tun').exists():
        pytest.skip('there is no /dev/net/tun')
    group = end_to_end.Group('short', (Condition(0.0, delay_ms=5),), ('evitif', 'tcp-cubic', 'local'), rounds=1, frames=4, warm_up=4)
    with end_to_end.session(group, True, True) as (link, robot_process, bridge):
        names = set(link.namespaces)
        assert link.datagrams_a_packet() == pytest.approx(1.0, abs=0.1)
        for name in group.contestants:
            for side in (bridge, robot_process):
                side.ask('connect', contestant=name, condition={'delay_ms': 5})
            link.set(group.conditions[0])
            figures = end_to_end.figures_of([{**robot_process.ask('turn', contestant=name, warm_up=4, frames=4), 'frames': 4,
                                              'robot_cpu': 0, 'bridge_cpu': 0}])
            robot_process.ask('disconnect', contestant=name)
            assert figures['images'] == 4 and figures['p50_ms'] is not None
            assert name == 'local' or figures['p50_ms'] > 10
    left = namespaces.run_tool(['ip', 'netns', 'list'])
    assert not any(name in left for name in names)
