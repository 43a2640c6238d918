"""Pre-shared keys: 32 random bytes that a robot and its bridge have in common, and the files that hold them.

A key leaves this module only as what is derived from it. No exception, `repr` or log shows it; they name its file.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

KEY_BYTES = 32
KEY_SUFFIX = '.key'
_LARGEST_FILE = 4096      # bytes; a key file has 45
_PRIVATE = 0o600
UNSEALED_WARNING = ('the link is unsealed: whoever is on its network can see what the camera sees, answer in place of the bridge and take '
                    "the robot's name; set key_file to seal it")


class KeyFileError(ValueError):
    """A key file that cannot be used; the sentence names its path and what was expected, never what is in it."""


class Key:
    """One pre-shared key. Raises ValueError for anything but 32 bytes.

    `hello` and `reply` (32 bytes each, by HKDF-Expand, RFC 5869) authenticate what edge and bridge say in the handshake.
    """

    __slots__ = ('_secret', 'hello', 'reply')

    def __init__(self, secret: bytes):
        if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
            size = len(secret) if isinstance(secret, bytes) else 0
            raise ValueError(f'a key of {size} bytes was given; expected {KEY_BYTES}')
        self._secret = secret
        self.hello, self.reply = (HKDFExpand(hashes.SHA256(), 32, b'evitif 2 ' + use).derive(secret) for use in (b'hello', b'reply'))

    @classmethod
    def random(cls) -> Key:
        """A new key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def session(self, shared: bytes, transcript: bytes) -> tuple[bytes, bytes, bytes]:
        """The keys of one session, 32 bytes each: for the edge's datagrams, for the bridge's, and for the WELCOME.

        HKDF-SHA256 (RFC 5869) over the ephemeral X25519 secret and the pre-shared key (NIST SP 800-56C, section 2, hybrid form): neither
        alone is enough.

        :param shared: X25519 (RFC 7748) of both sides' ephemeral keys, 32 bytes
        :param transcript: all that both sides said, of fixed length
        """
        derived = HKDF(hashes.SHA256(), 96, None, b'evitif 2 session' + transcript).derive(shared + self._secret)
        return derived[:32], derived[32:64], derived[64:]

    def __repr__(self) -> str:
        return 'Key(not shown)'

    def __reduce__(self):
        raise TypeError('a key is not copied or pickled')


class RobotKeys:
    """The bridge's keys: one for each robot by name, or one for all.

    :param by_robot: a robot's key by its name
    :param default: for robots that are not named
    :param refused: a sentence for each file that cannot be used; its robot has no key
    """

    def __init__(self, by_robot: Mapping[str, Key] | None = None, default: Key | None = None, refused: Sequence[str] = ()):
        self._by_robot = dict(by_robot or {})
        self._default = default
        self.refused = tuple(refused)

    @property
    def shared(self) -> tuple[tuple[str, ...], ...]:
        """The robots that have one key, so that each can pass for the others."""
        names: dict[bytes, list[str]] = {}
        for robot, key in sorted(self._by_robot.items()):
            names.setdefault(key.hello, []).append(robot)
        return tuple(tuple(robots) for robots in names.values() if len(robots) > 1)

    def of(self, robot: str) -> Key | None:
        """The robot's key, None where it has none."""
        return self._by_robot.get(robot, self._default)


def key_state(path: str | Path) -> tuple:
    """Names, times, sizes and modes of a key file, or of a folder and its key files: they differ when something has changed."""
    path = Path(path).expanduser()
    try:
        files = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
    except OSError:
        files = [path]
    return tuple((file.name, _file_state(file)) for file in files if file.suffix == KEY_SUFFIX or file == path)


def _file_state(file: Path) -> tuple | None:
    try:
        state = file.stat()
    except OSError:
        return None
    # The last change of the file's state too: `cp -p` and `rsync -t` give a file the time of the one that they copy.
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_mode, state.st_uid


def write_key_file(path: str | Path) -> None:
    """Write a new random key, mode 0600, in base64. Raises FileExistsError, and leaves the file alone, if there is one; OSError."""
    path = Path(path).expanduser()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    except FileExistsError:
        raise FileExistsError(f'{str(path)!r} is there already; expected a new name: a key is never overwritten') from None
    with os.fdopen(descriptor, 'wb') as file:
        os.fchmod(descriptor, _PRIVATE)      # whatever the umask
        file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b'\n')


def read_key_file(path: str | Path) -> Key:
    """The key in a file that only its owner can read; raises KeyFileError, as `read_secret`."""
    return Key(read_secret(path))


def read_secret(path: str | Path, name: str = 'key_file') -> bytes:
    """The 32 bytes of a key in a file that only its owner can read; `name`: of the setting, for what is said.

    Raises KeyFileError if the file cannot be opened, is no regular one, belongs to another user than this process's or root, is open to
    group or others, or holds no 32 bytes in base64.
    """
    path = Path(path).expanduser()
    shown = f'{name} {str(path)!r}'
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)      # a FIFO must not hold us
    except OSError as error:
        raise KeyFileError(f'{shown} cannot be read: {error.strerror}; expected a file that `evitif key new` made') from None
    try:
        # Of the file that is open, so that nobody exchanges it in between.
        status = os.fstat(descriptor)
        mode = status.st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(f'{shown} is {"a folder" if stat.S_ISDIR(mode) else "not a regular file"}; '
                               'expected a file that `evitif key new` made')
        _check_owner(shown, status, path)
        if mode & 0o077:
            raise KeyFileError(f'{shown} has mode {stat.S_IMODE(mode):04o}; expected 0600, so that nobody but its owner can read '
                               f'it: `chmod 600 {path}`')
        with os.fdopen(descriptor, 'rb', closefd=False) as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:      # a disk or a server that fails
        raise KeyFileError(f'{shown} cannot be read: {error.strerror}; expected a file that `evitif key new` made') from None
    finally:
        os.close(descriptor)
    try:
        secret = base64.b64decode(content.strip(), validate=True)
    except (binascii.Error, ValueError):
        secret = b''
    if len(secret) != KEY_BYTES:
        raise KeyFileError(f'{shown} holds {len(content)} bytes that are not a key; expected {KEY_BYTES} bytes in base64, as '
                           '`evitif key new` writes them') from None
    return secret


def read_robot_keys(path: str | Path) -> RobotKeys:
    """The bridge's keys: one file for all robots, or a folder with `<robot's name>.key` for each.

    The folder is read whole, once, so that no name from the network becomes a path. A file that cannot be used is in `refused`, and
    takes nothing from the other robots.

    Raises KeyFileError as `read_key_file`, or if the folder has no usable `.key` file, belongs to another user, or others may write into
    it.
    """
    path = Path(path).expanduser()
    shown = f'key_file {str(path)!r}'
    try:
        if not path.is_dir():
            return RobotKeys(default=read_key_file(path))
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        files = sorted(file for file in path.iterdir() if file.suffix == KEY_SUFFIX)
    except OSError as error:
        raise KeyFileError(f'{shown} cannot be read: {error.strerror}; expected a folder of <robot_name>{KEY_SUFFIX} files') from None
    _check_owner(shown, status, path)
    if mode & 0o022:
        raise KeyFileError(f'{shown} is a folder of mode {mode:04o}; expected 0700, so that nobody but its owner can put keys there: '
                           f'`chmod 700 {path}`')
    if not files:
        raise KeyFileError(f'{shown} has no {KEY_SUFFIX} file in it; expected one for each robot, <robot_name>{KEY_SUFFIX}')
    keys, refused = {}, []
    for file in files:
        try:
            keys[file.stem] = read_key_file(file)
        except KeyFileError as error:
            refused.append(str(error))
    if not keys:
        raise KeyFileError(refused[0])
    return RobotKeys(keys, refused=refused)


def reread_robot_keys(path: str) -> RobotKeys:
    """As `read_robot_keys`, for who runs with former keys: where nothing can be read, no robot has a key any more."""
    try:
        return read_robot_keys(path)
    except KeyFileError as error:
        return RobotKeys(refused=[f'no robot has a key any more: {error}'])


def _check_owner(shown: str, status: os.stat_result, path: Path) -> None:
    """Whoever owns a file can read and exchange it, whatever its mode."""
    if status.st_uid not in (0, os.geteuid()):
        raise KeyFileError(f'{shown} belongs to user {status.st_uid}; expected user {os.geteuid()}, which this process runs as, or root: '
                           f'`chown {os.geteuid()} {path}`')


def require_choice(key_file: str | None, unsealed: bool, silent: bool = False) -> None:
    """Refuse a link for which neither or both of key and `unsealed` are set, and silence without a key. Raises ValueError naming both
    ways out."""
    if silent and unsealed:
        raise ValueError('silent_to_strangers and unsealed are both true: without a key everybody is a stranger; set key_file and unsealed '
                         'to false, or silent_to_strangers to false')
    if not key_file and not unsealed:
        raise ValueError('key_file is empty and unsealed is false: set key_file to a file that `evitif key new FILE` made, the same key '
                         'on edge and bridge, or set unsealed to true where nobody else is on the network')
    if key_file and unsealed:
        raise ValueError(f'unsealed is true and key_file is {key_file!r}: expected one of them; set unsealed to false, or key_file to '
                         'nothing')
