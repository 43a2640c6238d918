"""Messages without ROS: those of evitif_msgs and the ones that others read, for an MCAP file."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from evitif.recording.definitions import EXTRA_DEFINITIONS

_BESIDE = Path(__file__).resolve().parents[2] / 'evitif_msgs' / 'msg'


def definitions_folder() -> Path:
    """Where the .msg files of evitif_msgs are: beside the sources, or in a ROS 2 workspace. Raises ValueError where they are not."""
    places = [_BESIDE, *(Path(prefix) / 'share' / 'evitif_msgs' / 'msg' for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(':'))]
    found = next((place for place in places if (place / 'Prediction.msg').is_file()), None)
    if found is None:
        raise ValueError('the definitions of evitif_msgs are not here: expected the source tree, or a sourced workspace with evitif_msgs')
    return found


class Messages:
    """Fills messages by name; fields that are not given are empty, and zero."""

    @cached_property
    def store(self) -> Typestore:
        """The types."""
        store = get_typestore(Stores.ROS2_JAZZY)
        for path in sorted(definitions_folder().glob('*.msg')):
            store.register(get_types_from_msg(path.read_text(), f'evitif_msgs/msg/{path.stem}'))
        for kind, text in EXTRA_DEFINITIONS.items():
            if kind not in store.fielddefs:
                store.register(get_types_from_msg(text, kind))
        return store

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """A std_msgs/Header."""
        return self.store.types['std_msgs/msg/Header'](stamp=self.time(stamp_ns), frame_id=frame_id)

    def time(self, stamp_ns: int) -> Any:
        """A builtin_interfaces/Time."""
        return self.store.types['builtin_interfaces/msg/Time'](sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)

    def message(self, kind: str, **fields: Any) -> Any:
        """A message of `kind`, as 'evitif_msgs/msg/Prediction'."""
        known, given = self.store.fielddefs[kind][1], dict(fields)
        values = {}
        for name, (node, what) in known:
            value = given.pop(name, None)
            if name == 'structure_needs_at_least_one_member':
                continue
            if node.name in ('ARRAY', 'SEQUENCE'):
                base = what[0]
                values[name] = self._sequence(base, [] if value is None else value)
            elif value is not None:
                values[name] = str(value) if node.name == 'BASE' and what[0] == 'string' else value
            elif node.name == 'BASE':
                values[name] = '' if what[0] == 'string' else False if what[0] == 'bool' else 0
            else:
                values[name] = self.message(what)
        if given:
            raise ValueError(f'{kind} has no field {next(iter(given))!r}')
        return self.store.types[kind](**values)

    @staticmethod
    def _sequence(base: tuple, value: Any) -> Any:
        kind = base[1][0] if isinstance(base[1], tuple) else base[1]
        if base[0].name == 'NAME' or kind == 'string':
            return list(value)
        return np.asarray(value, np.bool_ if kind == 'bool' else np.dtype(kind))

    def serialise(self, message: Any) -> bytes:
        """As CDR."""
        return bytes(self.store.serialize_cdr(message, message.__msgtype__))
