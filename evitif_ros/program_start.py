"""The first lines of a node's program, before the imports, which take a second or two. Imports next to nothing itself."""

import os
import signal

_OTHER_WAITS = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')
_OTHER_COUNTS = ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS')


def begin_program(name: str) -> None:
    """For what is started as a program, which gives its `__name__`; whoever imports it keeps its own environment and handlers."""
    if name == '__main__':
        share_the_cores()
        _end_quietly_while_importing()


def share_the_cores() -> None:
    """Let threads that wait for each other in a parallel loop sleep, unless the user has said something of them.

    By default they spin, on the core that another node needs: two threads of a ViT-Tiny's head on two busy cores then took ten times as
    long as one. OpenMP, which PyTorch uses, can be told to let them sleep. NumPy's OpenBLAS cannot, and its products are small here: it
    gets one thread. Both read this when they are imported.
    """
    if not any(name in os.environ for name in _OTHER_WAITS):
        os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'
    if not any(name in os.environ for name in _OTHER_COUNTS):
        os.environ['OPENBLAS_NUM_THREADS'] = '1'


def _end_quietly_while_importing() -> None:
    """Until `lifecycle.run` takes the signals over, end the process at once and without a word: there is nothing to say goodbye to."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:      # as the shell has it for what runs in the background
            signal.signal(number, _end)


def _end(number: int, frame: object) -> None:
    os._exit(0)     # as after it; an exception could be caught by whatever is being imported
