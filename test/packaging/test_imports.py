"""Who may import whom: the table in docs/architecture.md, the contracts in .importlinter and the sources say the same."""

import ast
import re
from collections.abc import Iterable
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = sorted(path.parent.name for path in (ROOT / 'evitif').glob('*/__init__.py'))
HOUSE = sorted(path.parent.name for path in ROOT.glob('*/__init__.py'))
TORCH = {'torch', 'torchvision', 'timm', 'safetensors'}


def contracts() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / '.importlinter')
    return parser


def layers(contract: str) -> list[list[str]]:
    """From top to bottom, the packages of each layer."""
    lines = contracts()[f'importlinter:contract:{contract}']['layers'].split('\n')
    return [re.split(r' *\| *', line.strip()) for line in lines if line.strip()]


def table() -> dict[str, str]:
    """The column `may import` of each folder in docs/architecture.md."""
    page = (ROOT / 'docs' / 'architecture.md').read_text()
    rows = re.findall(r'^\| (`evitif[^|]*|`benchmarks[^|]*) \| [^|]* \| ([^|]*) \|$', page, re.MULTILINE)
    return {folder: column for folders, column in rows for folder in re.findall(r'`([\w/]+)`', folders)}


def below(package: str) -> set[str]:
    """The packages in lower layers than this one of the library."""
    order = layers('library')
    place = next(index for index, layer in enumerate(order) if package in layer)
    return {name for layer in order[place + 1:] for name in layer}


def allowed(package: str) -> set[str]:
    """The packages of the library that the table lets this one import."""
    column = table()[f'evitif/{package}']
    return below(package) if 'all of the above' in column else set(re.findall(r'`(?:evitif/)?(\w+)`', column)) & set(LIBRARY)


def imported(paths: Iterable[Path]) -> dict[str, set[str]]:
    """What files import, at whatever place, and which do: packages of the library as `evitif.<name>`."""
    found: dict[str, set[str]] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f'evitif.{alias.name}' for alias in node.names] if node.module == 'evitif' else [node.module]
            for name in names:
                parts = name.split('.')
                found.setdefault('.'.join(parts[:2 if parts[0] == 'evitif' else 1]), set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_package_is_in_the_table_and_in_a_contract():
    assert sorted(name for layer in layers('library') for name in layer if name != 'api') == LIBRARY
    assert {f'evitif/{name}' for name in LIBRARY} <= set(table())
    assert sorted(name for layer in layers('house') for name in layer if (ROOT / name / '__init__.py').is_file()) == HOUSE
    assert set(contracts()['importlinter']['root_packages'].split()) == {name for layer in layers('house') for name in layer}


@pytest.mark.parametrize('package', LIBRARY)
def test_the_table_allows_only_what_the_contract_allows(package):
    assert allowed(package) <= below(package)


@pytest.mark.parametrize('package', LIBRARY)
def test_a_package_imports_what_the_table_says(package):
    names = imported((ROOT / 'evitif' / package).rglob('*.py'))
    others = {f'evitif.{name}' for name in LIBRARY} - {f'evitif.{package}'} - {f'evitif.{name}' for name in allowed(package)}
    assert {name: paths for name, paths in names.items() if name in others} == {}


@pytest.mark.parametrize('package', LIBRARY)
def test_pytorch_is_imported_where_table_and_contract_say(package):
    without = contracts()['importlinter:contract:no-torch']['source_modules'].split()
    uses = {name: paths for name, paths in imported((ROOT / 'evitif' / package).rglob('*.py')).items() if name in TORCH}
    says = 'torch' in table()[f'evitif/{package}'] or 'all of the above' in table()[f'evitif/{package}']
    assert says == (f'evitif.{package}' not in without)
    assert says or not uses, uses


def test_the_library_s_small_modules_know_none_of_its_packages():
    small = [path for path in (ROOT / 'evitif').glob('*.py') if path.name not in ('__init__.py', 'api.py')]
    assert {name: paths for name, paths in imported(small).items() if name in {f'evitif.{package}' for package in LIBRARY}} == {}
