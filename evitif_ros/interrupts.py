"""SIGINT and SIGTERM while a node's modules are still being imported, which takes a second or two. Imports next to nothing itself."""

import os
import signal


def end_quietly_while_importing(name: str) -> None:
    """Until `lifecycle.run` takes the signals over, end the process at once and without a word: there is nothing to say goodbye to.

    For the first lines of what is started as a program, which gives its `__name__`; whoever imports it keeps its own handlers.
    """
    if name != '__main__':
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:      # as the shell has it for what runs in the background
            signal.signal(number, _end)


def _end(number: int, frame: object) -> None:
    os._exit(0)     # as after it; an exception could be caught by whatever is being imported
