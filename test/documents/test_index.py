"""docs/index.md names every page, every verb and every target; docs/notes/README.md every note."""

import re
from pathlib import Path

import pytest

from evitif_cli.main import VERBS

DOCS = Path(__file__).resolve().parents[2] / 'docs'
INDEX = (DOCS / 'index.md').read_text()
TARGETS = re.findall(r'^([a-z]+):.*##', (DOCS.parent / 'Makefile').read_text(), re.MULTILINE)


def verbs(table, above='evitif'):
    for name, (_, below) in table.items():
        yield from verbs(below, f'{above} {name}') if isinstance(below, dict) else [f'{above} {name}']


@pytest.mark.parametrize('page', sorted(path.name for path in DOCS.glob('*.md') if path.name != 'index.md'))
def test_the_index_links_to_a_page(page):
    assert f'({page})' in INDEX[INDEX.index('## All pages'):]


@pytest.mark.parametrize('verb', verbs(VERBS))
def test_the_index_has_a_verb(verb):
    assert re.search(rf'`{verb}[` ]', INDEX)


@pytest.mark.parametrize('target', [target for target in TARGETS if target != 'help'])
def test_the_index_has_a_target(target):
    assert f'`make {target}`' in INDEX


@pytest.mark.parametrize('note', sorted(path.name for path in (DOCS / 'notes').glob('2*.md')))
def test_the_notes_list_has_a_note(note):
    assert f'({note})' in (DOCS / 'notes' / 'README.md').read_text()
