"""Values as JSON has them, and short keys that tell them apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def plain(value: Any) -> Any:
    """`value` as it comes back from a JSON file: lists for tuples, texts for keys."""
    return json.loads(json.dumps(value))


def key_of(value: Any) -> str:
    """16 digits that tell this value from others, for the name of a file."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
