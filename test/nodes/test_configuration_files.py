"""config/*.yaml and docs/nodes.md know every parameter, and name none that does not exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, LINK_SIMULATOR_PARAMETERS
from evitif_edge_node.parameters import CAMERA_PARAMETERS, EDGE_PARAMETERS
from evitif_ros.lifecycle import AUTOSTART

yaml = pytest.importorskip('yaml')
ROOT = Path(__file__).parents[2]
DEMO = {'/**/camera': CAMERA_PARAMETERS, '/**/edge_node': EDGE_PARAMETERS, '/**/bridge_node': BRIDGE_PARAMETERS,
        '/**/link_simulator': LINK_SIMULATOR_PARAMETERS}


def parameters(file, key):
    return yaml.safe_load((ROOT / 'config' / file).read_text())[key]['ros__parameters']


@pytest.mark.parametrize('file, table', [('edge.yaml', EDGE_PARAMETERS), ('bridge.yaml', BRIDGE_PARAMETERS)])
def test_every_parameter_with_its_default(file, table):
    assert parameters(file, '/**') == {parameter.name: parameter.default for parameter in (*table, AUTOSTART)}


@pytest.mark.parametrize('key', DEMO)
def test_demo_values_are_accepted(key):
    table = {parameter.name: parameter for parameter in (*DEMO[key], AUTOSTART)}
    for name, value in parameters('demo.yaml', key).items():
        assert table[name].refusal(value) is None


def test_demo_sides_agree():
    edge, bridge, link = ({**{parameter.name: parameter.default for parameter in DEMO[key]}, **parameters('demo.yaml', key)}
                          for key in ('/**/edge_node', '/**/bridge_node', '/**/link_simulator'))
    assert all(edge[name] == bridge[name] for name in ('model', 'cut', 'quantisation'))
    assert edge['bridge_port'] == link['listen_port'] and link['forward_port'] == bridge['port']


@pytest.mark.parametrize('table', [EDGE_PARAMETERS, CAMERA_PARAMETERS, BRIDGE_PARAMETERS, LINK_SIMULATOR_PARAMETERS])
def test_reference_has_every_parameter(table):
    text = (ROOT / 'docs' / 'nodes.md').read_text()
    for parameter in table:
        assert f'| `{parameter.name}` |' in text and parameter.description in text


def test_what_is_made_from_the_settings_is_not_stale():
    made = subprocess.run([sys.executable, ROOT / 'scripts' / 'settings_pages.py', '--check'], capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.parametrize('key', DEMO)
def test_the_demos_file_has_only_what_differs(key):
    defaults = {parameter.name: parameter.default for parameter in DEMO[key]}
    assert not [name for name, value in parameters('demo.yaml', key).items() if value == defaults[name]]


def test_the_readmes_defaults_are_those_of_the_settings():
    defaults = {parameter.name: parameter.default for parameter in (*BRIDGE_PARAMETERS, *EDGE_PARAMETERS)}
    rows = re.findall(r'^\| (`.*?) \| (?:edge|bridge|both) \| (.*?) \|', (ROOT / 'README.md').read_text(), re.MULTILINE)
    told = {name: yaml.safe_load(re.sub('`| s$', '', default)) for names, column in rows if column not in ('none', 'the shipped ViT')
            for name, default in zip(re.findall(r'`(\w+)`', names), column.split(', '), strict=True)}
    assert len(told) > 5 and told == {name: defaults[name] for name in told}


def test_the_page_on_adding_quotes_a_setting_as_it_is():
    (example,) = re.findall(r'^(\w+: \w+ = setting\(.*?)\n```', (ROOT / 'docs' / 'adding.md').read_text(), re.DOTALL | re.MULTILINE)
    quoted, declared = (' '.join(text.split()) for text in (example, (ROOT / 'evitif' / 'settings' / 'edge.py').read_text()))
    assert quoted in declared
