"""`make lint` names a file that has grown too long, and a run time that passes its budget."""

from pathlib import Path

from scripts.size import FILE_LINES, complaints, lines_of, room_of


def test_a_long_file_and_a_spent_budget_are_named():
    lines = {Path('evitif/protocol/wire/datagram.py'): FILE_LINES + 1, Path('evitif/files.py'): FILE_LINES}
    assert complaints(lines, budget=1000) == [f'evitif/protocol/wire/datagram.py has {FILE_LINES + 1} lines: expected at most {FILE_LINES}']
    assert complaints(lines, budget=800)[1:] == ['the run time has 801 lines: expected at most 800']


def test_a_room_is_a_package_of_the_library_or_a_package():
    assert room_of(Path('evitif/protocol/wire/datagram.py')) == 'evitif/protocol'
    assert room_of(Path('evitif/files.py')) == 'evitif' and room_of(Path('evitif_ros/qos.py')) == 'evitif_ros'


def test_the_run_time_is_found_and_the_laboratory_is_not():
    rooms = {room_of(path) for path in lines_of()}
    assert {'evitif', 'evitif/pipeline', 'evitif_edge_node'} <= rooms and not {'evitif_lab', 'evitif_cli'} & rooms
