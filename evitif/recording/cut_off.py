"""Bags without an index, as a recorder leaves them whose power failed: read from the front, as far as whole records go."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import Connection, ConnectionExtRosbag1, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag1 import ReaderError
from rosbags.rosbag1.reader import Header, RecordType, decompressors, normalize, normalize_msgtype, read_bytes, read_uint32

_FORMATS = {'ros2msg': MessageDefinitionFormat.MSG, 'ros1msg': MessageDefinitionFormat.MSG, 'ros2idl': MessageDefinitionFormat.IDL,
            'omgidl': MessageDefinitionFormat.IDL}
UNCOUNTED = -1          # messages of a connection that nobody counted


class CutOff:
    """Messages by one pass over a file. What follows the last whole record is left out."""

    def __init__(self, path: Path):
        self._path = path
        self.connections: list[Connection] = []

    def open(self) -> None:
        """Find the topics, by going through the whole file once. Raises ReaderError where there is none."""
        for _ in self._pass(None):
            pass
        if not self.connections:
            raise ReaderError('not one whole record of a topic is in it')

    def close(self) -> None:
        """Nothing stays open between passes."""

    def messages(self, connections: Collection[Connection] = (), start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """As the readers of `rosbags`, in the order of the file."""
        wanted = {connection.id: connection for connection in connections or self.connections}
        for number, received_ns, data in self._pass(wanted):
            if (start is None or received_ns >= start) and (stop is None or received_ns < stop):
                yield wanted[number], received_ns, data

    def _pass(self, wanted: Collection[int] | None) -> Iterator[tuple[int, int, bytes]]:
        """Connection, time and bytes of each message of `wanted`; None: only the connections are found."""
        try:
            with self._path.open('rb') as file:
                yield from self._records(file, wanted)
        except OSError as error:
            if error.errno is not None:
                raise
        except Exception:       # whatever a decompressor raises on half of its data
            return

    def _records(self, file: BinaryIO, wanted: Collection[int] | None) -> Iterator[tuple[int, int, bytes]]:
        raise NotImplementedError

    def _add(self, connection: Connection) -> None:
        if all(connection.id != known.id for known in self.connections):
            self.connections.append(connection)


class CutOffMcap(CutOff):
    """An MCAP file without a footer, or of which the summary is damaged."""

    def _records(self, file: BinaryIO, wanted: Collection[int] | None) -> Iterator[tuple[int, int, bytes]]:
        schemas: dict[int, Schema] = {}
        for one in StreamReader(file).records:
            if isinstance(one, Schema):
                schemas[one.id] = one
            elif isinstance(one, Channel):
                schema = schemas.get(one.schema_id)
                kind = MessageDefinitionFormat.NONE if schema is None else _FORMATS.get(schema.encoding, MessageDefinitionFormat.NONE)
                self._add(Connection(one.id, one.topic, '' if schema is None else schema.name,
                                     MessageDefinition(kind, '' if schema is None else schema.data.decode()), '', UNCOUNTED,
                                     ConnectionExtRosbag2(one.message_encoding, []), self))
            elif isinstance(one, Message) and wanted is not None and one.channel_id in wanted:
                yield one.channel_id, one.log_time, one.data


class CutOffSqlite(CutOff):
    """A sqlite3 file of a rosbag2 that ends too early, or of which a page is damaged."""

    def _pass(self, wanted: Collection[int] | None) -> Iterator[tuple[int, int, bytes]]:
        database = sqlite3.connect(f'{self._path.absolute().as_uri()}?mode=ro', uri=True)
        try:
            # Else a file with fewer pages than its header says is not opened at all.
            database.execute('PRAGMA writable_schema = ON')
            try:
                definitions = {kind: (encoding, text) for kind, encoding, text in database.execute(
                    'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions')}
            except sqlite3.Error:           # before Iron there are none
                definitions = {}
            for number, topic, kind, format in database.execute('SELECT id, name, type, serialization_format FROM topics'):
                encoding, text = definitions.get(kind, ('', ''))
                self._add(Connection(number, topic, kind, MessageDefinition(_FORMATS.get(encoding, MessageDefinitionFormat.NONE), text), '',
                                     UNCOUNTED, ConnectionExtRosbag2(format, []), self))
            if wanted is not None:
                rows = database.execute('SELECT topic_id, timestamp, data FROM messages ORDER BY rowid')
                yield from (row for row in rows if row[0] in wanted)
        except sqlite3.DatabaseError:
            return
        finally:
            database.close()


class CutOffRos1(CutOff):
    """A ROS 1 bag that was not closed (`.bag.active`, renamed), or of which the index is damaged."""

    def _records(self, file: BinaryIO, wanted: Collection[int] | None) -> Iterator[tuple[int, int, bytes]]:
        file.readline()
        while True:
            header = Header.read(file)
            kind, size = header.get_uint8('op'), read_uint32(file)
            if kind == RecordType.CHUNK:
                compression = header.get_string('compression')
                chunk = io.BytesIO(decompressors[compression](read_bytes(file, size)))
                yield from self._chunk(chunk, len(chunk.getbuffer()), wanted)
            else:
                read_bytes(file, size)

    def _chunk(self, chunk: BinaryIO, end: int, wanted: Collection[int] | None) -> Iterator[tuple[int, int, bytes]]:
        while chunk.tell() < end:
            header = Header.read(chunk)
            kind = header.get_uint8('op')
            if kind == RecordType.CONNECTION:
                number, topic = header.get_uint32('conn'), normalize(header.get_string('topic'))
                about = Header.read(chunk)          # the record's data are laid out as a header
                self._add(Connection(number, topic, normalize_msgtype(about.get_string('type')),
                                     MessageDefinition(MessageDefinitionFormat.MSG, about.get_string('message_definition')),
                                     about.get_string('md5sum'), UNCOUNTED, ConnectionExtRosbag1(None, None), self))
                continue
            data = read_bytes(chunk, read_uint32(chunk))
            if kind == RecordType.MSGDATA and wanted is not None and header.get_uint32('conn') in wanted:
                yield header.get_uint32('conn'), header.get_time('time'), data
