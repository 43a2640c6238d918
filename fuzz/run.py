"""Coverage-guided fuzzing of every parser and state machine: `evitif fuzz`.

Each target runs under libFuzzer in a process of its own, for its share of the time (`SHARES`). It begins from the committed inputs
(fuzz/corpus) and those that earlier runs found (reports/fuzz/found); a further run goes on where the last one ended, and the report
(reports/fuzz/fuzz.json) counts the inputs of all runs. An input that raises, takes too long (10 s; 120 s with two robots)
or more than 2 GB is kept in reports/fuzz/faults; `python -m fuzz.one TARGET FILE` runs it again.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from evitif.files import read_json, write_json
from evitif_lab.commands.progress import Progress
from fuzz import corpus
from fuzz.seeds import genuine

ROOT = Path(__file__).resolve().parents[1]
MOST_MEMORY_MB = 2048
LONGEST_INPUT = 512             # bytes
CORPUS_BYTES = 30_000           # of the committed file of one target
NAMES = ('datagram', 'tokens', 'reports', 'handshake', 'sealed-handshake', 'seal', 'answer', 'keys', 'configuration', 'parameters',
         'impairment', 'trace', 'reassembly', 'rows', 'link', 'sealed-link', 'two-robots', 'sealed-two-robots', 'artifacts', 'pictures',
         'coded', 'coded-frames', 'map', 'patches')
# Shares of the time: an input of these is some seconds of two robots' lives, and one of the others a datagram or a file.
SHARES = dict.fromkeys(NAMES, 1) | {'two-robots': 3, 'sealed-two-robots': 6}
LONGEST_INPUT_S = dict.fromkeys(NAMES, 10) | {'two-robots': 120, 'sealed-two-robots': 120}


class Fuzzer:
    """Runs targets and remembers, in `folder`, what they found."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.report = folder / 'fuzz.json'
        self.totals = {name: {'inputs': 0, 'seconds': 0, 'faults': 0} for name in NAMES}
        if self.report.is_file():
            self.totals.update(read_json(self.report)['targets'])

    def run(self, name: str, seconds: int) -> str:
        """Fuzz one target; returns the output where there was a fault, else nothing."""
        found = self.folder / 'found' / name
        corpus.unpack(name, found, genuine(name))
        faults = self.folder / 'faults'
        faults.mkdir(parents=True, exist_ok=True)
        done = self._libfuzzer(name, f'-max_total_time={seconds}', '-print_final_stats=1', f'-timeout={LONGEST_INPUT_S[name]}',
                               f'-rss_limit_mb={MOST_MEMORY_MB}', f'-max_len={LONGEST_INPUT}', '-len_control=0',
                               f'-artifact_prefix={faults}/{name}-',
                               str(found))
        executed = re.search(r'stat::number_of_executed_units: +(\d+)', done.stderr)
        cell = self.totals[name]
        cell['inputs'] += int(executed[1]) if executed else 0
        cell['seconds'] += seconds
        cell['faults'] += done.returncode != 0
        cell['corpus'] = len(list(found.iterdir()))
        self.save()
        return done.stderr[-3000:] if done.returncode else ''

    def keep(self, name: str) -> int:
        """Write what libFuzzer kept, which is what covers something, into the committed corpus; returns how many."""
        found = self.folder / 'found' / name
        return corpus.write(name, [path.read_bytes() for path in found.iterdir() if path.stat().st_size <= LONGEST_INPUT], CORPUS_BYTES)

    def save(self) -> None:
        """Write the report."""
        write_json(self.report, {
            'command': 'evitif fuzz', 'python': sys.version.split()[0], 'longest_input_s': LONGEST_INPUT_S,
            'inputs': sum(cell['inputs'] for cell in self.totals.values()),
            'faults': sum(cell['faults'] for cell in self.totals.values()), 'targets': self.totals})

    @staticmethod
    def _libfuzzer(name: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, '-m', 'fuzz.one', name, *arguments], cwd=ROOT, capture_output=True, text=True,
                              errors='replace', check=False)


def seconds_of(name: str, minutes: int) -> int:
    """A target's part of the time."""
    return max(1, 60 * minutes * SHARES[name] // sum(SHARES.values()))


def fuzz_all(minutes: int, keep: bool, output: Path) -> int:
    """Fuzz all targets, `minutes` over all of them; return the exit status, 1 where an input failed.

    :param keep: write the inputs that cover something into fuzz/corpus
    :param output: folder of the report, of what was found and of the inputs that failed
    """
    if importlib.util.find_spec('atheris') is None:
        print('fuzz: atheris is not installed, and nothing was fuzzed: `pip install -r requirements/fuzz.txt` where it has a wheel '
              '(Linux, x86-64). The committed inputs are run by `make test` in any case.')
        return 0
    fuzzer = Fuzzer(output.resolve())
    failed = False
    for name in Progress(NAMES, desc='fuzz', unit='target'):
        if fault := fuzzer.run(name, seconds_of(name, minutes)):
            failed = True
            print(f'fuzz: {name} failed; the input is in {fuzzer.folder / "faults"}, and `python -m fuzz.one {name} FILE` runs it again'
                  f'\n{fault}', file=sys.stderr)
        elif keep:
            fuzzer.keep(name)
    for name in NAMES:
        cell = fuzzer.totals[name]
        print(f'{name:>18}: {cell["inputs"]:>12,} inputs, {cell["corpus"]:>5} that cover something, {cell["faults"]} faults')
    print(f'{sum(cell["inputs"] for cell in fuzzer.totals.values()):,} inputs in all; {fuzzer.report}')
    return int(failed)
