"""Sub-models are placed greedily on an inventory, pruned harder until they fit, and what cannot be is said."""

import pytest

from evitif.partition.slicing import Shape
from evitif_lab.partition.placement import InventoryDevice, place, read_inventory
from evitif_lab.partition.pruning import Limit, Size


def within(index, limit):
    """A size of exactly the limit; ten multiply-adds a parameter."""
    if limit.parameters < 100:
        raise ValueError('too small')
    return Size(Shape(8, 1, 8, 8), limit.parameters, 10 * limit.parameters)


def test_each_goes_where_most_compute_is_left():
    devices = (InventoryDevice('slow', 1e6, 15_000), InventoryDevice('fast', 1e6, 40_000))
    placed = place([Limit(1000), Limit(1000), Limit(1000)], within, devices, rate=1)
    assert [one.device for one in placed] == ['fast', 'fast', 'fast']
    placed = place([Limit(1000), Limit(2000)], within, devices, rate=1)
    assert [one.device for one in placed] == ['fast', 'fast']
    placed = place([Limit(1500), Limit(3000)], within, devices, rate=1)
    assert [one.device for one in placed] == ['slow', 'fast']
    assert all(one.rounds == 0 for one in placed)


def test_what_fits_nowhere_is_pruned_harder():
    placed = place([Limit(1000)], within, (InventoryDevice('tiny', 4 * 500, 1e9),), rate=1)
    assert placed[0].rounds > 0
    assert placed[0].size.parameters <= 500 < placed[0].size.parameters / 0.8


def test_an_inventory_into_which_nothing_fits_is_refused_with_what_is_left():
    with pytest.raises(ValueError) as refused:
        place([Limit(1000)], within, (InventoryDevice('mote', 4 * 50, 1e9),), rate=1)
    assert 'sub-model 0 fits on no device' in str(refused.value) and 'mote: 200 bytes' in str(refused.value)


def test_an_inventory_is_read(tmp_path):
    path = tmp_path / 'inventory.yaml'
    path.write_text('devices:\n  - {name: rover, memory: 2_000_000, compute: 1e9}\n  - {name: mast, memory: 8.0e6, compute: 4.0e9}\n')
    assert read_inventory(path) == (InventoryDevice('rover', 2e6, 1e9), InventoryDevice('mast', 8e6, 4e9))


@pytest.mark.parametrize('content, expected', [
    ('devices: [{name: a, memory: 1, compute: 1}, {name: a, memory: 2, compute: 2}]', "two devices have one identity, 'a'"),
    ('devices: []', 'expected a list'),
    ('[', 'not valid YAML'),
    ('devices: [{name: a, memory: 1}]', 'expected name, memory and compute'),
    ('devices: [{name: a, memory: many, compute: 1}]', "memory of 'a'"),
    ('devices: [{name: a, memory: 1, compute: -3}]', "compute of 'a'"),
    ('devices: [{name: ../a, memory: 1, compute: 1}]', "'../a'"),
])
def test_a_bad_inventory_is_refused_with_the_reason(tmp_path, content, expected):
    path = tmp_path / 'inventory.yaml'
    path.write_text(content)
    with pytest.raises(ValueError) as refused:
        read_inventory(path)
    assert expected in str(refused.value) and str(path) in str(refused.value)


def test_a_missing_inventory_is_named():
    with pytest.raises(ValueError, match='nowhere.yaml: cannot be read'):
        read_inventory('nowhere.yaml')
