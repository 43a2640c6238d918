"""Progress of long work: a bar on a terminal, whole lines now and then elsewhere, and one place that says so."""

import io
import re
from pathlib import Path

import pytest

from evitif_lab.commands import progress
from evitif_lab.commands.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """tqdm's time, a second for every item."""
    class Clock:
        now = 0.0

        def items(self, count):
            for number in range(count):
                yield number
                self.now += 1.0
    clock = Clock()
    monkeypatch.setattr('tqdm.std.time', lambda: clock.now)
    monkeypatch.setattr(Progress, 'monitor_interval', 0)        # which runs by the real time
    return clock


def test_a_file_gets_a_line_every_ten_seconds_and_one_at_the_end(clock):
    file = io.StringIO()
    bar = Progress(clock.items(35), total=35, desc='training', unit='step', file=file)
    for number in bar:
        bar.set_postfix(loss=f'{number}')       # another figure with every step
    lines = file.getvalue().splitlines()
    assert '\r' not in file.getvalue() and '' not in lines
    assert 3 <= len(lines) <= 5 and lines[-1].startswith('training: 100% 35/35 [00:35<00:00')
    assert all(re.fullmatch(r'training: +\d+% \d+/35 \[\d\d:\d\d<\d\d:\d\d, +1\.\d\dstep/s, loss=\d+\]', line) for line in lines)


def test_what_takes_seconds_leaves_nothing_in_a_file(clock):
    file = io.StringIO()
    list(Progress(clock.items(5), total=5, desc='short', file=file))
    with Progress(total=5, desc='short', leave=False, file=file) as bar:
        for _ in clock.items(5):
            bar.update()
    assert file.getvalue() == ''


def test_work_of_unknown_length_is_told_too(clock):
    file = io.StringIO()
    list(Progress(clock.items(25), desc='images', file=file))
    with Progress(desc='starting', bar_format='{desc}: {elapsed}', leave=False, file=file) as bar:
        for _ in clock.items(15):
            bar.update(0)
    lines = file.getvalue().splitlines()
    assert lines[0].startswith('images: 1') and lines[-1] == 'starting: 00:10' and '\r' not in file.getvalue()


def test_a_terminal_gets_the_bar(clock):
    file = Terminal()
    list(Progress(clock.items(5), total=5, desc='short', file=file))
    assert '\rshort: 100%|' in file.getvalue()


def test_nothing_else_draws_bars():
    folders = {path.parent.name for path in ROOT.glob('*/__init__.py')} | {'benchmarks', 'fuzz', 'scripts'}
    drawing = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob('*.py')
               if path != Path(progress.__file__) and re.search(r'^\s*(from|import) tqdm', path.read_text(), re.MULTILINE)]
    assert drawing == []
