"""One target under libFuzzer, in a process of its own: python -m fuzz.one TARGET [libFuzzer's arguments]."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=['evitif.protocol', 'evitif.transport', 'evitif.model', 'evitif.recovery.artifact',
                                         'evitif.pipeline.rate_table', 'evitif.pictures']):
    if sys.argv[1] == 'artifacts':
        from fuzz.artifacts import TARGETS
    elif sys.argv[1] == 'pictures':
        from fuzz.pictures import TARGETS
    else:
        from fuzz import attacks, coded, machines, parsers
        TARGETS = {**parsers.TARGETS, **machines.TARGETS, **attacks.TARGETS, **coded.TARGETS}

if __name__ == '__main__':
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
