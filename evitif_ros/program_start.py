"""What a node's program does before its imports, which take a second or two."""

import os
import signal

_OTHER_WAITS = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')
_OTHER_COUNTS = ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS')


def begin_program(name: str) -> None:
    """Prepare a program; does nothing for a module that is only imported (`name` is its `__name__`)."""
    if name == '__main__':
        share_the_cores()
        _end_quietly_while_importing()


def share_the_cores() -> None:
    """Let threads that wait for each other in a parallel loop sleep, unless the user has configured them.

    By default they spin on a core that another node needs: on two busy cores two threads of a ViT-Tiny's head then took ten times as
    long as one. OpenMP, which PyTorch uses, can let them sleep. NumPy's OpenBLAS cannot; its products are small here, so it gets one
    thread. Both read these variables when they are imported.
    """
    if not any(name in os.environ for name in _OTHER_WAITS):
        os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'
    if not any(name in os.environ for name in _OTHER_COUNTS):
        os.environ['OPENBLAS_NUM_THREADS'] = '1'


def _end_quietly_while_importing() -> None:
    """Until `lifecycle.run` takes over the signals, end the process at once and silently."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:      # the shell ignores it for background processes
            signal.signal(number, _end)


def _end(number: int, frame: object) -> None:
    os._exit(0)     # an exception could be caught by a module that is being imported
