"""What all trained artifacts share: a description in JSON, mostly with arrays in safetensors beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from evitif.files import read_json
from evitif.identity import difference, of_a_model
from evitif.model.errors import ArtifactError
from evitif.typed_json import typed
from evitif.wording import shortened

T = TypeVar('T')


def read_artifact(path: Path | str, title: str, format: int, kinds: Collection[str] = (), advice: str = '') -> dict:
    """The description in the JSON file `path`, which `title` names in the text of an error.

    :param kinds: the kinds expected; empty: descriptions of this title have no kind
    :param advice: how the error ends where the file cannot be read
    :raises ArtifactError: it cannot be read, or is not of this format and of one of these kinds
    """
    try:
        description = read_json(path)
    except OSError as error:
        raise ArtifactError(f'{title} {path}: cannot be read: {error.strerror}{advice}') from None
    except ValueError as error:
        raise ArtifactError(f'{title} {error}') from None
    fits = isinstance(description, dict) and description.get('format') == format
    if not fits or kinds and str(description.get('kind')) not in kinds:
        kind = f' and kind {" or ".join(kinds)}' if kinds else ''
        raise ArtifactError(f'{title} {path}: expected a description of format {format}{kind}')
    return description


def part_of(kind: type[T], description: dict, key: str, path: Path | str, title: str) -> T:
    """What the description has under `key`, as a `kind` (see `typed_json.typed`). Raises ArtifactError, naming the file and the key."""
    try:
        return typed(kind, description[key], key)
    except (KeyError, ValueError) as error:
        what = f'the key {key!r} is missing' if isinstance(error, KeyError) else error
        raise ArtifactError(f'{title} {path}: cannot be used: {what}') from None


def require_fingerprint(path: Path | str, title: str, made_for: object, model: object, fingerprint: str) -> None:
    """Raise ArtifactError, with both values and what differs, unless `made_for`, the fingerprint of `model` in the description, is
    `fingerprint`."""
    if made_for != fingerprint:
        known = isinstance(made_for, str) and of_a_model(made_for)
        what = difference(made_for, fingerprint) if known else ' (made by an earlier version of evitif? then it has to be made again)'
        raise ArtifactError(f'{title} {path} was made for the model {model!r:.100} with fingerprint {str(made_for)[:16]}…, '
                            f'this model has {fingerprint[:16]}…{what}')


def read_arrays(path: Path | str, title: str, build: Callable[[Path], T]) -> T:
    """What `build` returns for the safetensors file beside the description `path`. Raises ArtifactError where it fails."""
    from safetensors import SafetensorError
    arrays = Path(path).expanduser().with_suffix('.safetensors')
    try:
        return build(arrays)
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise ArtifactError(f'{title} {arrays}: cannot be read: {shortened(error)}') from None
