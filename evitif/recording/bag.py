"""Bags: rosbag2 (sqlite3 and MCAP, split, zstd-compressed files and messages) and ROS 1 bags, by the library `rosbags`.

What a file is, its first bytes say, not its name. A bag that was cut off (no index, no `metadata.yaml`) is read in order as far as it goes.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import apsw
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag1 import ReaderError as ReaderError1
from rosbags.rosbag2 import Reader as Reader2
from rosbags.rosbag2 import ReaderError as ReaderError2
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from evitif.recording.cut_off import CutOff, CutOffMcap, CutOffRos1, CutOffSqlite
from evitif.recording.definitions import EXTRA_DEFINITIONS
from evitif.recording.errors import RecordingError
from evitif.recording.kinds import MCAP, METADATA, ROS1, SQLITE, SUFFIXES, ZSTD, files_of, magic_of

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_CUT_OFF: dict[bytes, type[CutOff]] = {MCAP: CutOffMcap, ROS1: CutOffRos1, SQLITE: CutOffSqlite}
_NAMED = 12         # topics, in a sentence
# What the readers and their decompressors raise on bytes that no recorder wrote.
_DAMAGE = (ReaderError1, ReaderError2, SerdeError, apsw.Error, sqlite3.Error, struct.error, EOFError, KeyError, IndexError, ValueError,
           TypeError, AssertionError, RuntimeError, OverflowError, MemoryError, AttributeError)


@dataclass(frozen=True)
class Topic:
    """A topic of a bag."""

    name: str
    kind: str               # as in ROS 2: 'sensor_msgs/msg/Image'
    count: int | None       # of messages; None where nobody counted them


class Record(NamedTuple):
    """One message as it was recorded."""

    topic: str
    received_ns: int        # when the recorder got it
    data: bytes


class Part(Protocol):
    """One reader: that of a whole bag, or that of one of its files."""

    connections: list[Connection]

    def open(self) -> None:
        """Open the files, and find the connections."""

    def close(self) -> None:
        """Give the files back."""

    def messages(self, connections: Collection[Connection] = (), start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time in ns and bytes of each message from `start` to before `stop`."""
        ...


class Bag:
    """An open bag. `remark` says what is wrong with it, where something is; `say` gets a sentence where it turns out to be damaged."""

    def __init__(self, path: Path, parts: list[Part], ros1: bool, remark: str, say: Callable[[str], None]):
        self.path, self.remark = path, remark
        self._parts, self._ros1, self._say = parts, ros1, say
        self._stores: dict[str, Typestore] = {}
        self.topics: dict[str, Topic] = {}
        counts: dict[str, int | None] = {}
        kinds: dict[str, str] = {}
        for connection in (c for part in parts for c in part.connections):
            before = counts.get(connection.topic, 0)
            counts[connection.topic] = None if before is None or connection.msgcount < 0 else before + connection.msgcount
            kinds.setdefault(connection.topic, connection.msgtype)
        self.topics = {name: Topic(name, kinds[name], count) for name, count in counts.items()}

    def close(self) -> None:
        """Give the files back."""
        for part in self._parts:
            part.close()
        self._parts = []

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def records(self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[Record]:
        """The messages of `topics` in the order in which they were recorded, of those received from `start_ns` to before `stop_ns`.

        Where the bag turns out to be damaged they end, and `say` is told how many there were. Raises RecordingError where the file is gone
        or cannot be read any more.
        """
        count = 0
        for part in self._parts:
            wanted = [connection for connection in part.connections if connection.topic in topics]
            if not wanted:
                continue
            try:
                for connection, received_ns, data in part.messages(wanted, start_ns, stop_ns):
                    yield Record(connection.topic, received_ns, bytes(data))
                    count += 1
            except OSError as error:
                raise RecordingError(f'{self.path} cannot be read any more after {count} messages: {error.strerror or error}') from None
            except _DAMAGE as error:
                self._say(f'{self.path} is damaged: {count} messages of {", ".join(sorted(topics))} could be read before '
                          f'({_reason(error)})')

    def message(self, topic: str, data: bytes) -> Any:
        """A message of `topic`, with the fields that its definition in the bag has. Raises RecordingError where it cannot be one."""
        kind = self.topics[topic].kind
        store = self._store(topic)
        try:
            return store.deserialize_ros1(data, kind) if self._ros1 else store.deserialize_cdr(data, kind)
        except _DAMAGE as error:
            raise RecordingError(f'{self.path}: a message of {topic} cannot be read as {kind}: {_reason(error)}') from None

    def _store(self, topic: str) -> Typestore:
        """The types of one topic: another one whose definition nobody can read does not matter."""
        if topic not in self._stores:
            found = [c for part in self._parts for c in part.connections if c.topic == topic]
            defined = next((c for c in found if c.msgdef.format != MessageDefinitionFormat.NONE), None)
            try:
                if defined is None:
                    store = get_typestore(Stores.ROS1_NOETIC if self._ros1 else Stores.LATEST)
                    kind = found[0].msgtype
                    if kind in EXTRA_DEFINITIONS:
                        store.register(get_types_from_msg(EXTRA_DEFINITIONS[kind], kind))
                    elif kind not in store.fielddefs:
                        raise RecordingError(f'{self.path} has no definition of {kind}, the type of {topic}')
                else:
                    store = get_typestore(Stores.EMPTY)
                    store.register(_types(defined))
            except _DAMAGE + (TypesysError,) as error:
                if isinstance(error, RecordingError):
                    raise
                raise RecordingError(f'{self.path}: the definition of {found[0].msgtype}, the type of {topic}, cannot be read: '
                                     f'{_reason(error)}') from None
            self._stores[topic] = store
        return self._stores[topic]

    def contents(self) -> str:
        """What is in it, for a sentence."""
        named = [f'{topic.name} ({topic.kind})' for topic in sorted(self.topics.values(), key=lambda topic: topic.name)]
        more = f' and {len(named) - _NAMED} more' if len(named) > _NAMED else ''
        return ', '.join(named[:_NAMED]) + more if named else 'no topic'


def open_bag(path: Path, say: Callable[[str], None]) -> Bag:
    """Open a bag: a file, or the folder that a recorder made. Raises RecordingError, saying what it is instead or what is wrong.

    :param say: gets a sentence where something is wrong that can be gone round
    """
    if not path.exists():
        raise RecordingError(f'recording {str(path)!r} does not exist')
    if path.is_dir():
        return _open_folder(path, say)
    magic = magic_of(path)
    if magic is None:
        raise RecordingError(f'{path} is no bag: expected a rosbag2 folder, an MCAP or sqlite3 file of one, or a ROS 1 bag')
    if magic == ZSTD:
        raise RecordingError(f'{path} is a compressed file of a bag: expected the folder that the recorder made, with its {METADATA}')
    part, remark = _open_file(path, magic)
    if remark:
        say(remark)
    return Bag(path, [part], magic == ROS1, remark, say)


def _open_folder(path: Path, say: Callable[[str], None]) -> Bag:
    remark = ''
    if (path / METADATA).is_file():
        reader = Reader2(path)
        try:
            reader.open()
            return Bag(path, [reader], False, '', say)
        except OSError as error:
            raise RecordingError(f'{path} cannot be opened: {error.strerror or error}') from None
        except _DAMAGE as error:
            remark = f'{path}: {METADATA} does not help ({_reason(error)}), so its files are read one by one'
    files = files_of(path)
    if not files:
        raise RecordingError(remark or f'{path} has no {METADATA} and no MCAP or sqlite3 file: expected a rosbag2 folder')
    remarks = [remark or f'{path} has no {METADATA}, as when a recorder was cut off: its files are read one by one']
    parts: list[Part] = []
    for file in files:
        try:
            part, remark = _open_file(file, magic_of(file) or MCAP)
        except RecordingError as error:
            remarks.append(str(error))
            continue
        parts.append(part)
        remarks += [remark] if remark else []
    if not parts:
        raise RecordingError('; '.join(remarks))
    for sentence in remarks:
        say(sentence)
    return Bag(path, parts, False, '; '.join(remarks), say)


def _open_file(path: Path, magic: bytes) -> tuple[Part, str]:
    """The reader of a file, open, and a remark."""
    if path.suffix != SUFFIXES[magic]:
        raise RecordingError(f'{path} is a bag whose name should end in {SUFFIXES[magic]}: rename it')
    reader: Part = Reader1(path) if magic == ROS1 else Reader2(path)
    try:
        reader.open()
        return reader, ''
    except OSError as error:
        raise RecordingError(f'{path} cannot be opened: {error.strerror or error}') from None
    except _DAMAGE as error:
        reason = _reason(error)
    reader = _CUT_OFF[magic](path)
    try:
        reader.open()
    except (*_DAMAGE, OSError) as error:
        raise RecordingError(f'{path} cannot be read: {_reason(error)}') from None
    return reader, f'{path} has no usable index ({reason}), as when a recorder was cut off: what is there is read in order'


def _types(connection: Connection) -> dict[str, Any]:
    definition = connection.msgdef
    if definition.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(definition.data, connection.msgtype)
    line = '=' * 80 + '\n'
    if not definition.data.startswith(f'{line}IDL: '):
        return get_types_from_idl(definition.data)
    types: dict[str, Any] = {}
    for part in definition.data.split(line)[1:]:
        types.update(get_types_from_idl(part.partition('\n')[2]))
    return types


def _reason(error: BaseException) -> str:
    text = ' '.join(str(error).split()).rstrip('.')
    return text or type(error).__name__


