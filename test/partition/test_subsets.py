"""Every class is on as many devices as asked for, sizes differ by at most one, and mistakes are named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.partition.checks import check_subsets
from evitif_lab.partition.subsets import random_subsets, similar_subsets, with_redundancy

sizes = st.integers(1, 40).flatmap(lambda classes: st.tuples(st.just(classes), st.integers(1, classes)))


@given(sizes, st.integers(0, 100))
def test_random_subsets_cover_every_class_once_in_sizes_that_differ_by_one(size, seed):
    classes, devices = size
    subsets = random_subsets(classes, devices, seed)
    assert sorted(index for subset in subsets for index in subset) == list(range(classes))
    assert max(map(len, subsets)) - min(map(len, subsets)) <= 1
    assert subsets == random_subsets(classes, devices, seed)


@given(sizes, st.integers(0, 5))
def test_similar_subsets_cover_every_class_once_in_sizes_that_differ_by_one(size, seed):
    classes, devices = size
    confusions = np.random.default_rng(seed).random((classes, classes))
    subsets = similar_subsets(confusions, devices, seed)
    assert sorted(index for subset in subsets for index in subset) == list(range(classes))
    assert max(map(len, subsets)) - min(map(len, subsets)) <= 1


def test_classes_that_are_taken_for_one_another_are_put_together():
    confusions = np.eye(9)
    for group in ((0, 4, 8), (1, 3, 5), (2, 6, 7)):
        for first in group:
            for second in group:
                confusions[first, second] += 0.2
    assert set(similar_subsets(confusions, 3)) == {(0, 4, 8), (1, 3, 5), (2, 6, 7)}


@given(sizes, st.integers(1, 40), st.integers(0, 3))
def test_redundancy_puts_each_class_on_so_many_devices(size, copies, seed):
    classes, devices = size
    copies = min(copies, devices)
    subsets = with_redundancy(random_subsets(classes, devices, seed), copies)
    check_subsets(subsets, classes, copies)


@pytest.mark.parametrize('subsets, redundancy, expected', [
    ([[0, 1], [1, 2]], 1, '1 (cat) overlap'),
    ([[0], [2]], 1, '1 (cat) are on no device'),
    ([[0, 1], [], [2]], 1, 'device 1 has no classes'),
    ([[0, 1], [2, 3]], 1, 'device 1 has the classes 3'),
    ([[0, 0], [1, 2]], 1, 'device 0 has the classes 0 (ant) more than once'),
    ([[0, 1], [1, 2]], 2, '0 (ant), 2 (dog) overlap'),
])
def test_overlapping_and_missing_classes_are_named(subsets, redundancy, expected):
    with pytest.raises(ValueError) as refused:
        check_subsets(subsets, 3, redundancy, ('ant', 'cat', 'dog'))
    assert expected in str(refused.value)


@pytest.mark.parametrize('call', [lambda: random_subsets(3, 4), lambda: random_subsets(3, 0), lambda: with_redundancy([[0], [1]], 3),
                                  lambda: similar_subsets(np.zeros((3, 2)), 2)])
def test_impossible_divisions_are_refused(call):
    with pytest.raises(ValueError, match='expected'):
        call()
