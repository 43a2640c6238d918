"""The heads that a parameter names, their topics, and what the robot makes of the bytes of their answers."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence

from torch import nn

from evitif.heads.artifact import HeadDescription, load_head, read_head
from evitif.heads.head import Head
from evitif.heads.results import Classes, Embedding, Result
from evitif.image_size import size_text
from evitif.model.errors import ArtifactError
from evitif.model.fingerprint import trunk_fingerprint
from evitif.model.split import SplitModel
from evitif.protocol.wire.parameters import MAX_HEADS
from evitif.vocabulary import Fit, Task

_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*')
# Below the robot's name: what a head publishes, by its task. Two heads cannot share one.
_TOPICS = {Task.CLASSIFY: '{name}/prediction', Task.EMBED: 'embedding', Task.SEGMENT: 'segmentation/mask', Task.DEPTH: 'depth/image'}
_UNPACK: dict[Task, Callable[[bytes, HeadDescription], Result]] = {
    Task.CLASSIFY: lambda content, about: Classes.unpack(content, len(about.labels)),
    Task.EMBED: lambda content, about: Embedding.unpack(content)}


def chosen_heads(names: str) -> tuple[HeadDescription, ...]:
    """The heads that the parameter `heads` names, separated by commas.

    Raises ArtifactError for one that is not there, for a name that is none for topics, and for two of one name or with the same topics.
    """
    found: dict[str, HeadDescription] = {}
    folders = [folder.strip() for folder in names.split(',') if folder.strip()]
    if len(folders) > MAX_HEADS:
        raise ArtifactError(f'heads names {len(folders)} heads: expected at most {MAX_HEADS}')
    for folder in folders:
        about = read_head(folder)
        require_topic_name(about.name)
        for other in found.values():
            if other.name == about.name:
                raise ArtifactError(f'heads names two heads {about.name!r}: expected folders with names that differ, since these are the '
                                    'names of their topics')
            if topic_of(other) == topic_of(about):
                raise ArtifactError(f'heads names {other.name} and {about.name}, which both publish {topic_of(about)}: expected one of '
                                    'them')
        found[about.name] = about
    return tuple(found.values())


def view_for(chosen: Sequence[HeadDescription]) -> tuple[tuple[int, int] | None, Fit | None]:
    """The image size (height, width) and the fit that heads were trained with; None: there are none, or the backbone's own.

    Raises ArtifactError for two heads that see pictures in different ways: one run of the backbone serves all.
    """
    for one, other in itertools.combinations(chosen, 2):
        for what, first, second in (('image_size', size_text(one.reading.image_size), size_text(other.reading.image_size)),
                                    ('fit', one.reading.fit, other.reading.fit)):
            if first != second and None not in (first, second):
                raise ArtifactError(f'heads names {one.name}, trained with {what} {first}, and {other.name}, with {second}: expected heads '
                                    'that see pictures alike, since the backbone runs once for all')
    return next((about.reading.image_size for about in chosen), None), next(filter(None, (about.reading.fit for about in chosen)), None)


def load_heads(names: str, backbone: str, split: SplitModel, module: nn.Module) -> tuple[Head, ...]:
    """The same, loaded for a model as it was built, float32. Raises ArtifactError as `load_head` does."""
    fingerprint_of = functools.cache(functools.partial(trunk_fingerprint, module))
    return tuple(load_head(folder.strip(), backbone, split, fingerprint_of) for folder in names.split(',') if folder.strip())


def require_topic_name(name: str) -> None:
    """Raise ArtifactError unless `name` can be a part of a topic's name."""
    if not _NAME.fullmatch(name):
        raise ArtifactError(f'the head {name!r} cannot name topics: expected a folder whose name has only letters, digits and _, and '
                            'begins with a letter')


def topic_of(about: HeadDescription) -> str:
    """The topic of a head's answers, below the robot's name."""
    return _TOPICS[about.task].format(name=about.name)


def unpacked(about: HeadDescription, content: bytes) -> Result:
    """What a head said, from the bytes in an answer. Raises ValueError where they cannot be that."""
    if about.task not in _UNPACK:
        raise ValueError(f'a head to {about.task} travels in MAP datagrams')
    return _UNPACK[about.task](content, about)
