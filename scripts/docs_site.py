"""MkDocs's hook: the API reference's pages, and the files outside docs/ that pages link to.

On GitHub a page in docs/ links to ../CONTRIBUTING.md or ../config/fastdds.xml. A site holds only what lies in docs/, so the hook
adds what is linked to: README, CONTRIBUTING and CHANGELOG as pages, other files as they are. A link to a folder becomes its name.
A link that leads nowhere is left alone, and MkDocs refuses it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
ROOT_PAGES = {'README.md': 'readme.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md'}
REFERENCE = ('settings', 'model', 'protocol', 'transport', 'recovery', 'selection', 'partition', 'pipeline')
FRONT_DOOR = '# evitif\n\n::: evitif\n    options:\n      show_root_heading: false\n'
LINK = re.compile(r'\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API reference, those of the repository's root, and every file that a page links to."""
    files.append(File.generated(config, 'reference/evitif.md', content=FRONT_DOOR))
    for package in REFERENCE:
        files.append(File.generated(config, f'reference/{package}.md', content=_reference(package)))
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    for page in [ROOT / name for name in ROOT_PAGES] + sorted(DOCS.rglob('*.md')):
        for _, link, _ in LINK.findall(page.read_text()):
            file = (page.parent / link).resolve()
            uri = _uri(file)
            if uri is not None and uri.startswith('source/') and not files.get_file_from_path(uri):
                files.append(File.generated(config, uri, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead each link that leaves docs/ to where the site has its target."""
    names = {uri: name for name, uri in ROOT_PAGES.items()}
    source = ROOT / names[page.file.src_uri] if page.file.src_uri in names else DOCS / page.file.src_uri

    def lead(match: re.Match) -> str:
        text, link, anchor = match.groups()
        target = (source.parent / link).resolve()
        if target.is_dir():
            return text if '`' in text else f'`{target.relative_to(ROOT)}/`'
        uri = _uri(target)
        if uri is None:
            return match.group()
        return f'[{text}]({os.path.relpath(uri, os.path.dirname(page.file.src_uri) or ".")}{anchor or ""})'

    return LINK.sub(lead, markdown)


def _uri(file: Path) -> str | None:
    """Where the site has a file of the repository; None where there is no such file."""
    if not file.is_file() or not file.is_relative_to(ROOT):
        return None
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS).as_posix()
    return ROOT_PAGES.get(file.relative_to(ROOT).as_posix(), f'source/{file.relative_to(ROOT).as_posix()}')


def _reference(package: str) -> str:
    """A page that shows every public module of `evitif/PACKAGE`."""
    modules = [file.relative_to(ROOT).with_suffix('') for file in sorted((ROOT / 'evitif' / package).rglob('*.py'))]
    names = ['.'.join(module.parts) for module in modules if not module.name.startswith('_')]
    return '\n\n'.join([f'# evitif.{package}', *(f'::: {name}' for name in names)]) + '\n'
