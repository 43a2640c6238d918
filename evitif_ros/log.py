"""The library's log messages in the node's log (/rosout, the console, the log file)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rclpy.node import Node


def log_of(node: Node) -> Callable[[int, str], None]:
    """A function (level of `logging`, sentence) that writes to the node's log."""
    logger = node.get_logger()

    def log(level: int, text: str) -> None:
        # rclpy ties a severity to the line that calls it, so each needs a line of its own.
        if level >= logging.ERROR:
            logger.error(text)
        elif level >= logging.WARNING:
            logger.warning(text)
        elif level >= logging.INFO:
            logger.info(text)
        else:
            logger.debug(text)
    return log


class LogForwarder(logging.Handler):
    """Passes on to a node what the library `evitif` logs."""

    def __init__(self, node: Node):
        super().__init__(logging.WARNING)
        self._log = log_of(node)
        self._library = logging.getLogger('evitif')
        self._library.addHandler(self)
        self._library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:  # noqa: D102 - logging's
        self._log(record.levelno, self.format(record))

    def remove(self) -> None:
        """Let the library log by itself again."""
        self._library.removeHandler(self)
        self._library.propagate = True
