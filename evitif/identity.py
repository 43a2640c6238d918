"""The form of a model's fingerprint, 64 hexadecimal digits: its parts, and which of them differ between two."""

from __future__ import annotations

import re

PARTS = {'weights': 28, 'architecture': 16, 'preprocessing': 16, 'cut': 4}      # hexadecimal digits of each, in this order
NO_CUT = 'f' * PARTS['cut']
_FORM = re.compile(rf'[0-9a-f]{{60}}(0[0-3][0-9a-f][0-9a-f]|{NO_CUT})')         # of fewer than 1024 blocks


def join_parts(weights: str, architecture: str, preprocessing: str, cut: int | None = None) -> str:
    """A fingerprint from the first digits of each part's SHA-256, and the cut."""
    digits = weights, architecture, preprocessing, NO_CUT if cut is None else f'{cut:0{PARTS["cut"]}x}'
    return ''.join(value[:length] for value, length in zip(digits, PARTS.values(), strict=True))


def parts(fingerprint: str) -> dict[str, str]:
    """The digits of each part."""
    found, start = {}, 0
    for name, length in PARTS.items():
        found[name] = fingerprint[start:start + length]
        start += length
    return found


def of_a_model(text: str) -> bool:
    """Whether this has the form of a fingerprint; earlier versions of evitif had another form."""
    return _FORM.fullmatch(text) is not None


def difference(first: str, second: str) -> str:
    """Which parts of two fingerprints differ, as ' (other weights; …)'; '' where all or none do."""
    one, other = parts(first), parts(second)
    agree = [name for name in PARTS if one[name] == other[name]]
    differ = [name for name in PARTS if name not in agree]
    return f' (other {" and ".join(differ)}; the same {", ".join(agree)})' if agree and differ else ''
