"""Fonts that have the characters of a label: Pillow's own, matplotlib's DejaVu Sans (Greek, Cyrillic, …), then those of the system."""

from __future__ import annotations

import functools
import importlib.util
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import ImageFont

_OWN = ''                   # Pillow's
_FOLDERS = ('/usr/share/fonts', '/usr/local/share/fonts', '~/.local/share/fonts', '~/.fonts')
_UNUSUAL = ('mono', 'bold', 'italic', 'oblique', 'light', 'thin', 'black', 'condensed', 'serif')
_NOT_A_CHARACTER = '\uffff'
_PROBE_SIZE = 16
_SMALLEST = 6               # pixels


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font of `size` pixels that has every character of `text`; None where no font on this machine has."""
    name = _name_for(text)
    return None if name is None else _font(name, max(size, _SMALLEST))


def any_font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """As `font_for`; Pillow's own font, with boxes in the text, where there is none."""
    return font_for(text, size) or _font(_OWN, max(size, _SMALLEST))


def remark_on(labels: Sequence[str]) -> str:
    """A sentence where labels cannot be drawn, with the package that helps; else empty."""
    lacking = [label for label in labels if _name_for(label) is None]
    if not lacking:
        return ''
    package = 'fonts-noto-cjk' if any(unicodedata.east_asian_width(character) in 'WF' for character in lacking[0]) else 'fonts-noto-core'
    return (f'no font on this machine has the characters of {len(lacking)} of {len(labels)} labels, such as {lacking[0]!r}: annotated '
            f'images show the number of the class instead. Install fonts, such as the package {package}')


@functools.lru_cache(maxsize=4096)
def _name_for(text: str) -> str | None:
    characters = {character for character in text if not character.isspace()}
    if all(character.isprintable() and _has(_OWN, character) for character in characters):
        return _OWN
    return next((name for name in _installed() if all(_has(name, character) for character in characters)), None)


@functools.cache
def _installed() -> tuple[str, ...]:
    """The files of all other fonts, plain ones first."""
    found = []
    for folder in map(os.path.expanduser, _FOLDERS):
        found += (path for path in Path(folder).rglob('*') if path.suffix.lower() in ('.ttf', '.ttc', '.otf'))
    found.sort(key=lambda path: (sum(word in path.stem.lower() for word in _UNUSUAL), path.name))
    matplotlib = importlib.util.find_spec('matplotlib')
    for folder in (matplotlib.submodule_search_locations or ()) if matplotlib else ():
        found.insert(0, Path(folder) / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf')
    return tuple(str(path) for path in found if path.is_file())


@functools.lru_cache(maxsize=1 << 16)
def _has(name: str, character: str) -> bool:
    """Whether the font draws this character and not the box for those that it lacks."""
    font = _font(name, _PROBE_SIZE)
    return font is not None and _drawn(font, character) != _drawn(font, _NOT_A_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=256)
def _font(name: str, size: int):
    """The font, or None where its file is none that can be scaled."""
    if name == _OWN:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
