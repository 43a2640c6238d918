"""Robots' names as tokens of ROS topic names, no two robots alike. No ROS here."""

from __future__ import annotations

import re
from collections.abc import Container

_LONGEST = 64  # characters; DDS limits whole topic names to 255


def topic_token(robot: str, taken: Container[str] = ()) -> str:
    """A token for `robot` that is not in `taken`: letters, digits and single underscores, beginning with a letter.

    The rules are those of design.ros2.org, "Topic and Service name mapping to DDS": tokens may not begin with a digit,
    may not repeat underscores, and are hidden where they begin with one. A collision gets a number: `a_b`, `a_b_2`.
    """
    token = re.sub(r'_+', '_', re.sub(r'[^A-Za-z0-9]', '_', robot)).strip('_')[:_LONGEST].rstrip('_')
    if not token or token[0].isdigit():
        token = f'robot_{token}'.rstrip('_')
    candidate, number = token, 2
    while candidate in taken:
        candidate, number = f'{token}_{number}', number + 1
    return candidate
