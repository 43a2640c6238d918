"""How many bridges there should be, and how an update goes on, from what the directory reports."""

from pathlib import Path

import pytest
import yaml

from evitif_fleet.configuration import BridgesPlan, UpdateCheck, read_configuration
from evitif_fleet.plan import CALM_S, READY_S, Size, Update

ROOT = Path(__file__).resolve().parents[2]


def bridges(*loads, version='a', **changes):
    return [{'name': f'{version}-{number}', 'number': number, 'state': 'serving', 'version': version, 'robots': 10, 'capacity': 64,
             'load': load, 'wait_ms': 5.0, **changes} for number, load in enumerate(loads)]


def test_bridges_come_at_once_and_go_after_a_calm_while():
    size = Size(BridgesPlan(least=2, most=5))
    assert size.wanted([], 0.0) == 2
    assert size.wanted(bridges(0.5, 0.5), 1.0) == 2
    assert size.wanted(bridges(0.9, 0.8), 2.0) == 3
    assert size.wanted(bridges(1.0, 1.0, 1.0, 1.0), 3.0) == 5        # no more than `most`, whatever the load
    assert size.wanted(bridges(1.0, 1.0, 1.0, 1.0, 1.0), 4.0) == 5
    calm = bridges(0.1, 0.1, 0.2)
    assert size.wanted(calm, 10.0) == 3 and size.wanted(calm, 10.0 + CALM_S / 2) == 3
    assert size.wanted(bridges(0.5, 0.5, 0.5), 10.0 + CALM_S * 0.7) == 3      # busy again: the calm begins anew
    assert size.wanted(calm, 10.0 + CALM_S) == 3
    assert size.wanted(calm, 10.0 + 2 * CALM_S + 1) == 2
    assert size.least_used(bridges(0.1, 0.1)) == 'a-1'
    assert size.wanted(bridges(0.1, 0.1, robots=63), 5000.0) == 3    # full of robots counts as load


def update(**check):
    return Update('b', 'a', 100.0, UpdateCheck(**check))


def test_an_update_that_agrees_gets_the_robots_and_is_finished():
    going = update(agree=0.9, watch_s=30.0)
    assert [going.on_status(bridges(0.1, 0.1), 2, now) for now in (100.0, 101.0)] == ['wait', 'wait']
    both = bridges(0.1, 0.1) + bridges(0.1, 0.1, version='b')
    assert going.on_status(both, 2, 110.0) == 'check'
    assert going.on_check(0.95, '', 120.0) == 'move'
    going.on_moved()
    assert going.on_status(both, 2, 130.0) == 'watch' and going.on_status(both, 2, 151.0) == 'finish'


@pytest.mark.parametrize(('agreed', 'reason', 'said'), [
    (0.4, '', 'version b agrees with a on 40 % of the kept frames; expected at least 90'),
    (None, 'bridge b-0 answered none of 9 kept images', 'bridge b-0 answered none of 9 kept images')])
def test_an_update_that_answers_wrongly_or_not_at_all_is_taken_back(agreed, reason, said):
    going = update(agree=0.9)
    going.on_status([], 1, 100.0)
    assert going.on_status(bridges(0.1, version='b'), 1, 101.0) == 'check'
    assert going.on_check(agreed, reason, 102.0) == 'back' and going.reason == said


def test_an_update_whose_bridges_do_not_come_or_are_late_is_taken_back():
    going = update()
    going.on_status([], 2, 100.0)
    assert going.on_status(bridges(0.1, version='b'), 2, 100.0 + READY_S) == 'back'
    assert going.reason == f'1 of 2 bridges of version b report after {READY_S:.0f} s'
    for found, reason in ((bridges(0.1, version='b', wait_ms=900.0), 'frames wait 900 ms for b-0; expected at most 200'),
                          ([], '1 bridges of version b are gone')):
        going = update(late_ms=200.0)
        going.on_status([], 1, 100.0)
        going.on_status(bridges(0.1, version='b'), 1, 101.0)
        going.on_check(None, '', 102.0)
        going.on_moved()
        assert going.on_status(found, 1, 103.0) == 'back' and going.reason == reason


def test_the_examples_are_read():
    fleet = read_configuration(ROOT / 'config' / 'fleet.yaml')
    assert fleet.bridges.least == 2 and fleet.fleet_key.endswith('config/fleet.key') and fleet.admin == ('127.0.0.1', 7680)
    cluster = yaml.safe_load((ROOT / 'config' / 'kuberay.yaml').read_text())
    assert (cluster['apiVersion'], cluster['kind']) == ('ray.io/v1', 'RayCluster')
    for group in (cluster['spec']['headGroupSpec'], *cluster['spec']['workerGroupSpecs']):
        assert group['template']['spec']['hostNetwork'] and group['template']['spec']['containers']
