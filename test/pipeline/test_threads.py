"""How many threads PyTorch is given."""

import os
import threading

import pytest
import torch

from evitif.pipeline import threads
from evitif.pipeline.threads import choose_threads, quickest


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    before = torch.get_num_threads()
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, '_BY_PYTORCH', before)
    monkeypatch.setattr(threads, 'available_cores', lambda: 8)
    monkeypatch.setattr(threads, 'machine_is_full', lambda: False)
    monkeypatch.setattr(threads, 'MEASURE_S', 0.0)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('seconds, expected', [
    ({1: 40.0}, 1), ({1: 40.0, 2: 38.0}, 1), ({1: 40.0, 2: 20.0}, 2), ({1: 40.0, 2: 20.0, 4: 19.0}, 2),
    ({1: 40.0, 2: 20.0, 4: 10.0, 6: 9.0}, 4), ({1: 40.0, 2: 80.0}, 1)])
def test_more_threads_have_to_be_clearly_quicker(seconds, expected):
    assert quickest(seconds) == expected


@pytest.mark.parametrize('seconds, expected, measured', [
    ({1: 40, 2: 80, 4: 160, 8: 320}, 1, '1 in 40 ms, 2 in 80 ms)'),
    ({1: 120, 2: 60, 4: 30, 8: 60}, 4, '8 in 60 ms)'),
    ({1: 60, 2: 30, 4: 29, 8: 10}, 2, '1 in 60 ms, 2 in 30 ms, 4 in 29 ms)')])
def test_the_quickest_number_is_taken_and_said(monkeypatch, seconds, expected, measured):
    monkeypatch.setattr(threads, '_median_time', lambda work: seconds[torch.get_num_threads()] / 1e3)
    sentence = choose_threads(0, print)
    assert torch.get_num_threads() == expected and f'with {expected} thread' in sentence and measured in sentence, sentence


def test_it_is_measured_beside_a_neighbour():
    names = set()

    def work():
        names.update(thread.name for thread in threading.enumerate())
    choose_threads(0, work)
    assert 'evitif-neighbour' in names
    assert 'evitif-neighbour' not in {thread.name for thread in threading.enumerate()}


def test_what_the_user_set_is_kept(monkeypatch):
    def work():
        raise AssertionError('was measured')
    assert 'as set' in choose_threads(3, work) and torch.get_num_threads() == 3
    torch.set_num_threads(threads._BY_PYTORCH + 1)
    assert 'as the program set' in choose_threads(0, work) and torch.get_num_threads() == threads._BY_PYTORCH + 1
    torch.set_num_threads(threads._BY_PYTORCH)
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert 'as OMP_NUM_THREADS=5 says' in choose_threads(0, work) and torch.get_num_threads() == threads._BY_PYTORCH


def test_a_full_machine_gets_one_more_thread_and_no_measurement(monkeypatch):
    monkeypatch.setattr(threads, 'machine_is_full', lambda: True)
    assert 'the machine is full' in choose_threads(0, lambda: 1 / 0) and torch.get_num_threads() == 1


def test_cores_are_those_that_this_process_may_use(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert 1 <= threads.available_cores() <= len(os.sched_getaffinity(0))
    groups = tmp_path / 'groups'
    groups.write_text('9:name=systemd:/\n0::/robot.slice/edge.service\n')
    for folder, limit in (('', None), ('robot.slice', '300000 100000'), ('robot.slice/edge.service', 'max 100000')):
        (tmp_path / folder).mkdir(exist_ok=True)
        if limit:
            (tmp_path / folder / 'cpu.max').write_text(limit + '\n')
    assert threads._quotas(tmp_path, groups) == [3.0]
    assert threads._quotas(tmp_path, tmp_path / 'none') == []
