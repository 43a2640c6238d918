"""Is a documented command right? Each check asserts it with the parser, table or file that the command would meet."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import os
import re
import shlex
import subprocess
from pathlib import Path

from documents.fences import ROOT, Command

# Programs that are not this project's: nothing is checked but what of this project they are given.
OTHERS = {
    'cd': 'the shell', 'scp': 'copies a key', 'git': 'fetches the sources', 'rosdep': "ROS's", 'colcon': "ROS's", 'ln': 'the shell',
    'sudo': 'needs root', 'apt': 'needs root', 'pip': 'installs', 'mkdir': 'the shell',
}
# Verbs of ros2 about whatever runs, and packages of others.
ROS_OTHERS = {'bag': 'plays a recording', 'pkg': 'says where a package is', 'node': 'lists what runs', 'doctor': 'looks at ROS'}
OTHER_PACKAGES = {'nav2_lifecycle_manager': "Navigation2's", 'rqt_robot_monitor': "ROS's", 'diagnostic_aggregator': "ROS's"}
TRANSITIONS = {'configure', 'activate', 'deactivate', 'cleanup', 'shutdown'}
# What looks like a command in the running text.
NO_COMMANDS = {'evitif 2 hello': 'a label of the handshake', 'evitif 2 reply': 'the same', 'evitif 2 session': 'the same',
               'evitif 2 next': 'the same'}


def check(command: Command) -> None:
    """Assert that every command of a line, between `&&`, `|` and `;`, is right."""
    if command.text in NO_COMMANDS:
        return
    for words in simple_commands(command.text):
        variables = [word for word in words if re.match(r'[A-Z_]+=', word)]
        while words and words[0] in variables:
            words = words[1:]
        if not words:
            continue
        name = '.' if words[0] == '.' else Path(words[0]).name
        assert name in CHECKS or name in OTHERS, f'{command}: a kind of command that no check knows; add one to {__name__}'
        if name in CHECKS:
            CHECKS[name](words[1:], command)


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command of a line, without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars='&|;')
    lexer.whitespace_split, lexer.commenters = True, '#'
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set('&|;'):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def check_evitif(words: list[str], command: Command) -> None:
    """The command's own parser takes it. In the running text, values may be missing."""
    words = [word for word in words if word != '…']
    required = re.compile(r'the following arguments are required: (.+)')
    for _ in range(3):
        refusal = parse_evitif(words)
        missing = required.search(refusal) if refusal else None
        if not missing or command.whole:
            break
        for name in missing[1].split(', '):
            words += [name.partition('/')[0], 'X'] if name.startswith('-') else ['X']        # a second name may follow
    if refusal and not command.whole and (placeholder := re.search(r"'([A-Z]+)'", refusal)):
        refusal = '' if placeholder[1] in words else refusal
    assert not refusal or refusal.endswith('required: WHAT'), f'{command}: {refusal}'


def parse_evitif(words: list[str]) -> str:
    """Why the parser refuses the words; empty where it takes them. Nothing is run."""
    from evitif_cli.main import build_parser
    return refusal_of(lambda: build_parser().parse_args(words))


def refusal_of(parse) -> str:
    """What an argparse parser writes before it exits with an error."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parse()
    except SystemExit as exit:
        if exit.code:
            return said.getvalue().strip().splitlines()[-1]
    except argparse.ArgumentTypeError as error:
        return str(error)
    return ''


def check_make(words: list[str], command: Command) -> None:
    """The target is there, the Makefile reads the variables, and what it would run is right as well."""
    targets = [word for word in words if '=' not in word and word != '…']
    makefile = (ROOT / 'Makefile').read_text()
    for word in words:
        if '=' in word:
            name = word.partition('=')[0]
            assert re.search(rf'\$\({name}\)|\$\(if \$\({name}\)', makefile), f'{command}: the Makefile has no variable {name}'
    for target in targets:
        assert re.search(rf'^{re.escape(target)}:', makefile, re.MULTILINE), f'{command}: the Makefile has no target {target}'
    for planned in planned_by_make(words):
        for inner in simple_commands(planned):
            inner = [word for word in inner if word not in ('.', 'scripts/env.sh')]
            if inner[:3] == ['python', '-m', 'scripts.demo']:
                assert not (refusal := parse_demo(inner[3:])), f'{command}: {refusal}'
            elif inner[:1] == ['evitif'] or inner[:3] == ['python', '-m', 'evitif_cli']:
                check_evitif(inner[1:] if inner[0] == 'evitif' else inner[3:], Command(command.page, command.line, planned))


def planned_by_make(words: list[str]) -> list[str]:
    """What make would run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('MAKE', 'MFLAGS'))}
    words = [word for word in words if word != '…' and '=<' not in word]        # <name> stands for one of the reader's own
    planned = subprocess.run(['make', '--dry-run', '--no-print-directory', *words], cwd=ROOT,
                             env=environment, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    return [line for line in planned.stdout.splitlines() if line.startswith('. scripts/env.sh')]


def parse_demo(words: list[str]) -> str:
    """Why the demo refuses its options; empty if it takes them."""
    from scripts.demo.options import parse_arguments
    return refusal_of(lambda: parse_arguments(words))


def check_python(words: list[str], command: Command) -> None:
    """The module is there and knows the options; a node knows the parameters."""
    if words[:1] != ['-m'] or len(words) < 2:
        assert words and (ROOT / words[0]).is_file(), f'{command}: there is no such program'
        return
    module, arguments = words[1], words[2:]
    if module == 'pytest':
        assert all((ROOT / word).exists() for word in arguments if word.startswith('test')), f'{command}: no such folder'
        return
    if module == 'evitif_cli':
        check_evitif(arguments, command)
        return
    path = ROOT.joinpath(*module.split('.'))
    source = next((file for file in (path.with_suffix('.py'), path / '__main__.py') if file.is_file()), None)
    assert source is not None, f'{command}: there is no module {module}'
    if '--ros-args' in arguments:
        check_ros_arguments(arguments, command)
        return
    text = source.read_text()
    for word in arguments:
        assert not word.startswith('--') or f"'{word}'" in text, f'{command}: {module} has no option {word}'


def check_ros2(words: list[str], command: Command) -> None:
    """Launch arguments, executables, parameters, topics and transitions are there."""
    verb, words = words[0], words[1:]
    assert verb in ROS2_CHECKS or verb in ROS_OTHERS, f'{command}: a verb of ros2 that no check knows; add one to {__name__}'
    if verb in ROS2_CHECKS and words:
        ROS2_CHECKS[verb](words, command)


def check_ros2_launch(words: list[str], command: Command) -> None:
    """`ros2 launch PACKAGE FILE ARGUMENTS`."""
    assert words[0] == 'evitif' or words[0] in OTHER_PACKAGES, f'{command}: an unknown package'
    if words[0] == 'evitif':
        check_launch(words[1], words[2:], command)


def check_ros2_run(words: list[str], command: Command) -> None:
    """`ros2 run PACKAGE EXECUTABLE ARGUMENTS`."""
    assert words[0] == 'evitif' or words[0] in OTHER_PACKAGES, f'{command}: an unknown package'
    if words[0] == 'evitif':
        assert (ROOT / 'executables' / words[1]).is_file(), f'{command}: no such executable'
        check_ros_arguments(words[2:], command)


def check_ros2_topic(words: list[str], command: Command) -> None:
    """`ros2 topic VERB TOPIC`: a name that some node has."""
    for topic in [word for word in words[1:] if not word.startswith('-') and '/' in word]:
        assert quoted(topic.rstrip('/').split('/')[-1]), f'{command}: no node has the topic {topic}'


def check_ros2_param(words: list[str], command: Command) -> None:
    """`ros2 param VERB NODE NAME VALUE`."""
    if len(words) > 2:
        assert words[1].startswith('<') or quoted(words[1].split('/')[-1]), f'{command}: no such node'
        check_parameter(words[2], words[3] if len(words) > 3 else None, command)


def check_ros2_lifecycle(words: list[str], command: Command) -> None:
    """`ros2 lifecycle set NODE TRANSITION`."""
    assert len(words) < 3 or words[-1] in TRANSITIONS, f'{command}: no such transition'


def check_launch(file: str, arguments: list[str], command: Command) -> None:
    """By the launch file's own table where ROS's launch is installed, else by name."""
    path = ROOT / 'launch' / file
    assert path.is_file(), f'{command}: there is no launch/{file}'
    table = launch_arguments(path)
    for word in arguments:
        if word in ('--show-args', '-s', '…'):
            continue
        name, is_one, value = word.partition(':=')
        assert is_one, f'{command}: {word} is no launch argument'
        if table is None:
            sources = path.read_text() + (ROOT / 'evitif_ros' / 'launch_arguments.py').read_text()
            known = name in parameters() or f'uplink.{name}' in parameters() or f"'{name}'" in sources
            assert known, f'{command}: {file} has no argument {name}'
            continue
        assert name in table, f'{command}: {file} has no argument {name}'
        try:
            table[name].read(value)
        except ValueError as error:     # a program or file that this machine lacks is no fault of the page
            assert value.startswith('$') or 'is not installed here' in str(error), f'{command}: {name}: {error}'


@functools.cache
def launch_arguments(path: Path) -> dict | None:
    """The arguments of a launch file by name; None where ROS's launch is not installed."""
    if importlib.util.find_spec('launch_ros') is None:
        return None
    specification = importlib.util.spec_from_file_location(path.stem.replace('.', '_'), path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return {argument.name: argument for argument in module.ARGUMENTS}


def check_ros_arguments(arguments: list[str], command: Command) -> None:
    """Parameters after `-p`, and files after `--params-file`."""
    for before, word in zip(arguments, arguments[1:]):
        if before == '-p':
            name, _, value = word.partition(':=')
            check_parameter(name, value, command)


def check_parameter(name: str, value: str | None, command: Command) -> None:
    """A parameter of some node, and a value that it takes."""
    assert name in parameters(), f'{command}: no node has the parameter {name}'
    if value is not None:
        import yaml
        refusals = [parameter.refusal(yaml.safe_load(value)) for parameter in parameters()[name]]
        assert None in refusals, f'{command}: {refusals[0]}'


@functools.cache
def parameters() -> dict[str, list]:
    """The parameters of all nodes by name."""
    from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, LINK_SIMULATOR_PARAMETERS
    from evitif_edge_node.parameters import CAMERA_PARAMETERS, EDGE_PARAMETERS
    found: dict[str, list] = {}
    for parameter in (*BRIDGE_PARAMETERS, *LINK_SIMULATOR_PARAMETERS, *CAMERA_PARAMETERS, *EDGE_PARAMETERS):
        found.setdefault(parameter.name, []).append(parameter)
    return found


@functools.cache
def quoted(name: str) -> bool:
    """Whether a node, or what the nodes share, has this name of a topic or a node in its text."""
    folders = ('evitif_edge_node', 'evitif_cloud_bridge', 'evitif_ros', 'launch')
    return any(re.search(rf"['/]{re.escape(name)}['/]", path.read_text()) for folder in folders for path in (ROOT / folder).glob('*.py'))


def check_source(words: list[str], command: Command) -> None:
    """`. FILE`: one of this repository's, of an installed ROS 2, or what colcon writes."""
    file = words[0]
    assert (ROOT / file).is_file() or file.startswith('/opt/ros/') or re.match(r'(build|install)/', file), f'{command}: no such file'


def check_export(words: list[str], command: Command) -> None:
    """A file of the installed package is one that CMake installs."""
    for path in re.findall(r'\$\(ros2 pkg prefix --share evitif\)(/\S+)', command.text):
        assert (ROOT / path.lstrip('/')).is_file(), f'{command}: there is no {path}'


def check_tool(words: list[str], command: Command) -> None:
    """A tool of the development environment, given folders of this repository."""
    for word in words:
        assert not re.match(r'(test|evitif|docs|scripts)[\w/]*$', word) or (ROOT / word).exists(), f'{command}: there is no {word}'


CHECKS = {'evitif': check_evitif, 'make': check_make, 'python': check_python, 'python3': check_python, 'ros2': check_ros2,
          '.': check_source, 'source': check_source, 'export': check_export,
          **dict.fromkeys(('ruff', 'basedpyright', 'lint-imports', 'pytest', 'mkdocs'), check_tool)}
ROS2_CHECKS = {'launch': check_ros2_launch, 'run': check_ros2_run, 'topic': check_ros2_topic, 'param': check_ros2_param,
               'lifecycle': check_ros2_lifecycle}
