"""Progress of long work: a bar on a terminal, a line now and then anywhere else (a file, a pipe, CI)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from tqdm import tqdm

LINE_EVERY_S = 10.0


class Progress(tqdm):
    """tqdm, with its arguments. Without a terminal it writes whole lines, and none about work that takes seconds."""

    def __init__(self, iterable: Iterable | None = None, *, file: TextIO | None = None, **options: Any):
        file = file or sys.stderr
        self._plain = not _is_terminal(file)
        if self._plain:     # `ncols` of 0: figures without a bar
            options |= {'mininterval': LINE_EVERY_S, 'maxinterval': LINE_EVERY_S, 'delay': LINE_EVERY_S, 'ncols': 0}
        options.setdefault('mininterval', 1.0)
        super().__init__(iterable, file=file, **options)

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """How tqdm writes its state: over the line before on a terminal, else as a line of its own."""
        if _is_terminal(file):
            return tqdm.status_printer(file)

        def write(text: str) -> None:
            file.write(f'{text}\n')
            file.flush()
        return write

    def set_postfix(self, ordered_dict: Mapping | None = None, refresh: bool = True, **figures: Any) -> None:
        """As tqdm's; without a terminal the figures wait for the next line."""
        super().set_postfix(ordered_dict, refresh and not self._plain, **figures)

    def close(self) -> None:
        """As tqdm's; without a terminal the last line stands only if there were others."""
        if self._plain and not self.disable:
            if self.leave and self.last_print_t > self.start_t:
                self.display()
            self.sp = None      # tqdm has no line to clear
        super().close()


def _is_terminal(file: object) -> bool:
    return getattr(file, 'isatty', lambda: False)()
