"""Write what is made from the nodes' settings: config/edge.yaml, config/bridge.yaml and the tables in docs/nodes.md.

    python scripts/settings_pages.py            # after a setting was changed
    python scripts/settings_pages.py --check    # exit code 1 where a file is stale; the tests ask this too
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from evitif.settings import Changeable, Setting  # noqa: E402
from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, LINK_SIMULATOR_PARAMETERS  # noqa: E402
from evitif_edge_node.parameters import CAMERA_PARAMETERS, EDGE_PARAMETERS  # noqa: E402
from evitif_ros.parameters import AUTOSTART, ParameterTable  # noqa: E402

BEGIN, END = '<!-- made by scripts/settings_pages.py: begin -->\n', '<!-- made by scripts/settings_pages.py: end -->\n'
WIDTH = 120
COLUMNS = '| parameter | default | range | changeable | what it is |\n| --- | --- | --- | --- | --- |\n'
HEADER = """\
# Parameters of the {name} node, {where}, all with their defaults. Made by scripts/settings_pages.py. Start the node with them:
#     ros2 launch evitif {name}.launch.py params_file:=config/{name}.yaml
# `/**` is every namespace and node name. A parameter is read when the node is configured, unless its comment says otherwise.
/**:
  ros__parameters:
"""


def parameter_file(name: str, where: str, table: ParameterTable) -> str:
    """config/<name>.yaml: each parameter with its default, below its description."""
    return HEADER.format(name=name, where=where) + ''.join(_entry(parameter) for parameter in (*table, AUTOSTART))


def reference() -> str:
    """The tables of docs/nodes.md. What edge node and bridge node share comes first."""
    shared = [parameter for parameter in EDGE_PARAMETERS if parameter in BRIDGE_PARAMETERS]
    tables = {
        'Edge node and bridge node': shared, 'Edge node': [each for each in EDGE_PARAMETERS if each not in shared],
        'Bridge node': [each for each in BRIDGE_PARAMETERS if each not in shared], 'Camera node': CAMERA_PARAMETERS,
        'Link simulator node': LINK_SIMULATOR_PARAMETERS}
    return '\n'.join(f'### {title}: parameters\n\n{COLUMNS}' + ''.join(_row(each) for each in table) for title, table in tables.items())


def pages() -> dict[Path, str]:
    """Every file that is made here, as it should be."""
    nodes = ROOT / 'docs' / 'nodes.md'
    before, _, rest = nodes.read_text(encoding='utf-8').partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        ROOT / 'config' / 'edge.yaml': parameter_file('edge', 'on the robot', EDGE_PARAMETERS),
        ROOT / 'config' / 'bridge.yaml': parameter_file('bridge', 'off-board', BRIDGE_PARAMETERS),
        nodes: f'{before}{BEGIN}{reference()}{END}{after}'}


def main() -> int:
    """Write the files, or with --check say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 where a file is stale')
    check = parser.parse_args().check
    stale = [(path, text) for path, text in pages().items() if not path.is_file() or path.read_text(encoding='utf-8') != text]
    for path, text in stale:
        if not check:
            path.write_text(text, encoding='utf-8')
        print(f'{path.relative_to(ROOT)} {"is stale: run python scripts/settings_pages.py" if check else "written"}')
    return 1 if check and stale else 0


def _entry(parameter: Setting) -> str:
    text = f'{parameter.description[0].upper()}{parameter.description[1:]}.'
    if allowed := _allowed(parameter):
        text += f' {allowed[0].upper()}{allowed[1:]}.'
    if parameter.changeable is Changeable.ALWAYS:
        text += ' May be set at run time.'
    comment = textwrap.indent(textwrap.fill(text, WIDTH - 6, break_on_hyphens=False, break_long_words=False), '    # ')
    return f'{comment}\n    {parameter.name}: {_yaml(parameter.default)}\n'


def _row(parameter: Setting) -> str:
    return (f'| `{parameter.name}` | `{_yaml(parameter.default)}` | {_allowed(parameter, "`")} | {parameter.changeable.value} | '
            f'{parameter.description} |\n')


def _allowed(parameter: Setting, quote: str = '') -> str:
    """'from 0 to 63 (bytes)', 'one of raw, compressed', or '' where the type says it all."""
    if parameter.choices:
        return f'one of {", ".join(f"{quote}{choice}{quote}" for choice in parameter.choices)}'
    return parameter.range


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


if __name__ == '__main__':
    sys.exit(main())
