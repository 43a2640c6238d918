"""How every command of this project ends: with 0, or with one sentence and another status. A fault of the program shows its traceback."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

from evitif.wording import shortened

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
LONGEST = 1500         # characters of a message, whatever is in it


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: it cleans up, and the same command goes on from there."""


def run(program: str, job: Callable[[], int], advice: str = 'run the same command again to go on') -> int:
    """The status of `job`; 1 after a mistake that a sentence can tell, 130 after Ctrl-C, 143 after SIGTERM."""
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return job()
    except Terminated:
        print(f'{program}: terminated; {advice}', file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print(f'{program}: interrupted; {advice}', file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        name = f'{error.filename}: ' if error.filename is not None else ''
        return _told(program, f'{name}{error.strerror or error}')
    except (ValueError, MemoryError) as error:
        return _told(program, error)
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        return _told(program, f'the memory does not suffice: {error}')
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _told(program: str, error: object) -> int:
    print(f'{program}: {shortened(error, LONGEST)}', file=sys.stderr)
    return 1


def _terminate(*_) -> None:
    raise Terminated


def _out_of_memory(error: RuntimeError) -> bool:
    """PyTorch's errors, on a GPU and on the CPU."""
    return type(error).__name__ == 'OutOfMemoryError' or "can't allocate memory" in str(error)
