import base64
import copy
import os
import pickle
import shutil
import stat
import time
import traceback

import pytest

from evitif.protocol.sealing.keys import Key, KeyFileError, key_state, read_key_file, read_robot_keys, require_choice, write_key_file

SECRET = bytes(range(200, 232))
TEXT = base64.b64encode(SECRET)


def key_file(folder, name='robot.key', mode=0o600, content=TEXT + b'\n'):
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_new_key_is_private_and_read_again(tmp_path):
    before = os.umask(0)
    try:
        write_key_file(tmp_path / 'a.key')
    finally:
        os.umask(before)
    write_key_file(tmp_path / 'b.key')
    assert stat.S_IMODE((tmp_path / 'a.key').stat().st_mode) == 0o600
    assert read_key_file(tmp_path / 'a.key').hello == read_key_file(tmp_path / 'a.key').hello
    assert read_key_file(tmp_path / 'a.key').hello != read_key_file(tmp_path / 'b.key').hello


def test_a_key_is_never_overwritten(tmp_path):
    path = key_file(tmp_path)
    with pytest.raises(FileExistsError, match='is there already; expected a new name'):
        write_key_file(path)
    assert path.read_bytes() == TEXT + b'\n'


@pytest.mark.parametrize('mode', [0o640, 0o604, 0o620, 0o644, 0o610, 0o666])
def test_a_key_that_others_can_get_at_is_refused_naming_path_mode_and_what_was_expected(tmp_path, mode):
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(KeyFileError) as refused:
        read_key_file(path)
    for part in (str(path), f'has mode {mode:04o}', 'expected 0600', f'chmod 600 {path}'):
        assert part in str(refused.value)


@pytest.mark.parametrize('content', [b'', b'x', TEXT[:-4], TEXT + TEXT, SECRET, SECRET.hex().encode(), TEXT[:20] + b'!' + TEXT[20:],
                                     b'A' * 100_000])
def test_a_file_that_holds_no_key_is_refused_and_what_it_holds_is_not_told(tmp_path, content):
    with pytest.raises(KeyFileError, match='expected 32 bytes in base64') as refused:
        read_key_file(key_file(tmp_path, content=content))
    told = ''.join(traceback.format_exception(refused.value))
    assert TEXT[:12].decode() not in told and SECRET[:4].hex() not in told and repr(SECRET[:4])[2:-1] not in told
    assert refused.value.__suppress_context__


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(KeyFileError, match='cannot be read: No such file'):
        read_key_file(tmp_path / 'none.key')
    os.mkfifo(tmp_path / 'fifo.key', 0o600)
    with pytest.raises(KeyFileError, match='not a regular file'):
        read_key_file(tmp_path / 'fifo.key')
    before = len(os.listdir('/proc/self/fd'))
    (tmp_path / 'folder.key').mkdir()
    with pytest.raises(KeyFileError, match='is a folder; expected a file that `evitif key new` made'):
        read_key_file(tmp_path / 'folder.key')
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_folder_in_the_place_of_a_robots_key_is_named_and_nothing_stays_open(tmp_path):
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(3):
        with pytest.raises(KeyFileError, match=f"key_file '{tmp_path}' is a folder; expected a file that `evitif key new` made"):
            read_key_file(tmp_path)
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_folder_has_a_key_for_each_robot_by_name(tmp_path):
    folder = tmp_path / 'keys'
    folder.mkdir(mode=0o700)
    with pytest.raises(KeyFileError, match='no .key file'):
        read_robot_keys(folder)
    for name in ('rover', 'robot 1'):
        write_key_file(folder / f'{name}.key')
    (folder / 'README').write_text('not a key')
    keys = read_robot_keys(folder)
    assert keys.of('rover').hello == read_key_file(folder / 'rover.key').hello != keys.of('robot 1').hello
    for name in ('other', '../keys/rover', 'README', 'rover.key'):
        assert keys.of(name) is None
    folder.chmod(0o770)
    with pytest.raises(KeyFileError, match='is a folder of mode 0770; expected 0700'):
        read_robot_keys(folder)


def test_one_key_serves_all_robots(tmp_path):
    keys = read_robot_keys(key_file(tmp_path))
    assert keys.of('anybody').hello == Key(SECRET).hello


def test_a_key_is_not_shown_copied_or_of_another_size():
    key = Key(SECRET)
    for show in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            show(key)
    for wrong in (b'', SECRET[:-1], SECRET.decode('latin-1')):
        with pytest.raises(ValueError, match='expected 32'):
            Key(wrong)


def test_sealed_or_not_has_to_be_said_and_once():
    require_choice('robot.key', False)
    require_choice(None, True)
    for nothing in (None, ''):
        with pytest.raises(ValueError, match='set key_file to a file .* or set unsealed to true'):
            require_choice(nothing, False)
    with pytest.raises(ValueError, match="unsealed is true and key_file is 'robot.key': expected one of them"):
        require_choice('robot.key', True)
    require_choice('robot.key', False, silent=True)
    with pytest.raises(ValueError, match='silent_to_strangers and unsealed are both true: .*; set key_file'):
        require_choice(None, True, silent=True)


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file away')
def test_a_key_that_belongs_to_another_user_is_refused_whatever_its_mode(tmp_path):
    """That user could read and exchange it."""
    path = key_file(tmp_path)
    os.chown(path, 1234, 1234)
    with pytest.raises(KeyFileError, match=f'belongs to user 1234; expected user 0, .* `chown 0 {path}`'):
        read_key_file(path)
    key_file(tmp_path, 'rover.key')
    keys = read_robot_keys(tmp_path)
    assert keys.of('rover') is not None and keys.of('robot') is None and 'belongs to user 1234' in keys.refused[0]
    os.chown(path, 0, 0)
    os.chown(tmp_path, 1234, 1234)
    with pytest.raises(KeyFileError, match='belongs to user 1234'):
        read_robot_keys(tmp_path)


def test_a_robot_s_own_and_root_s_keys_are_read(tmp_path, monkeypatch):
    path = key_file(tmp_path)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, 'geteuid', lambda: owner + 5)
    if owner == 0:      # as a container's secret, which root puts there
        read_key_file(path)
    else:
        with pytest.raises(KeyFileError, match=f'belongs to user {owner}'):
            read_key_file(path)


def test_a_key_that_is_written_over_another_one_with_its_time_is_noticed(tmp_path):
    tmp_path.chmod(0o700)
    for name in ('rover', 'other'):
        write_key_file(tmp_path / f'{name}.key')
    times = (tmp_path / 'rover.key').stat()
    os.utime(tmp_path / 'other.key', ns=(times.st_atime_ns, times.st_mtime_ns))
    before = key_state(tmp_path)
    time.sleep(0.02)      # a tick of the file system's clock
    shutil.copy2(tmp_path / 'other.key', tmp_path / 'rover.key')
    assert key_state(tmp_path) != before


@pytest.mark.skipif(not os.path.exists('/proc/self/mem'), reason='only Linux has a file that opens and cannot be read')
def test_a_key_that_a_disk_cannot_read_is_refused_and_takes_nothing_from_the_others(tmp_path):
    tmp_path.chmod(0o700)
    write_key_file(tmp_path / 'rover.key')
    (tmp_path / 'broken.key').symlink_to('/proc/self/mem')
    keys = read_robot_keys(tmp_path)
    assert keys.of('rover') is not None and keys.of('broken') is None
    assert 'broken.key' in keys.refused[0] and 'cannot be read' in keys.refused[0]


def test_robots_whose_keys_are_copies_are_named(tmp_path):
    tmp_path.chmod(0o700)
    for name in ('rover.left', 'rover.right', 'other'):
        write_key_file(tmp_path / f'{name}.key')
    assert read_robot_keys(tmp_path).shared == ()
    shutil.copy(tmp_path / 'rover.left.key', tmp_path / 'spare.key')
    (tmp_path / 'spare.key').chmod(0o600)
    assert read_robot_keys(tmp_path).shared == (('rover.left', 'spare'),)
