"""A command's configuration is a dataclass; each field that `option` declares is an option of the command, told once."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from types import MappingProxyType
from typing import Any

from evitif.settings import AUTO
from evitif.vocabulary import Fit
from evitif_lab.commands.options import image_size, not_negative_int, positive_int

QUANTISATION_HELP = 'how tokens are coded; auto: by a transform code, chosen by the loss, if one was fitted, else int8'
VIEWS_HELP = 'random crops of each image, a number for each of --data (default: the images as they are)'
IMAGE_SIZE_HELP = "height and width of the model's input, such as 352x480, or one number for a square (default: the model's own)"
FIT_HELP = "how a picture of another shape is fitted to it (default: the model's own, mostly crop)"
LIMITS_HELP = 'images at most, a number for each of --data (default: all)'


def option(default: Any = MISSING, help: str | None = None, type: Callable[[str], Any] | None = None, **argument: Any) -> Any:
    """A field and its option, `--like_this` with dashes; without a default the option is required.

    :param help: what the option says; "(default: …)" is added unless the text says it
    :param type: takes the text to a value, and raises argparse.ArgumentTypeError for a bad one
    :param argument: what else `add_argument` takes: nargs, choices, metavar
    """
    return dataclasses.field(default=default, metadata={'option': {'help': help, 'type': type, **argument}})


def add_options(parser: argparse.ArgumentParser, configuration: type, alias: Mapping[str, str] = MappingProxyType({}),
                once: bool = False) -> None:
    """Give the parser the options of a configuration. One that is not given is None, and the field's default holds.

    :param alias: a second name of some fields' options
    :param once: pass over the options that the parser has
    """
    for field in dataclasses.fields(configuration):
        if 'option' not in field.metadata or once and _has(parser, field.name):
            continue
        about = dict(field.metadata['option'])
        if field.default is MISSING:
            about['required'] = True
        elif field.default is False:
            about = {'help': about['help'], 'action': 'store_true', 'default': None}
        elif '(default' not in (about['help'] or '') and field.default not in (None, (), ''):
            about['help'] = f'{about["help"] or ""} (default: {_shown(field.default)})'.strip()
        names = [f'--{field.name.replace("_", "-")}', *([alias[field.name]] if field.name in alias else ())]
        parser.add_argument(*names, dest=field.name, **about)


def _has(parser: argparse.ArgumentParser, name: str) -> bool:
    return any(action.dest == name for action in parser._actions)  # noqa: SLF001 - argparse has no public way to ask


def chosen(options: argparse.Namespace, configuration: type) -> dict[str, Any]:
    """The options that are fields of a configuration, where they were given."""
    names = {field.name for field in dataclasses.fields(configuration)}
    return {name: value for name, value in vars(options).items() if name in names and value is not None}


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A model with its weights, and where it runs."""

    model: str = option(help='a model folder, or the name of a timm model')
    checkpoint: str | None = option(None, 'a file with weights, for a timm name')
    pretrained: bool = option(False, "weights from timm's hub, for a timm name")
    device: str = option('cpu', 'cpu, cuda, cuda:0, mps, …')


@dataclass(frozen=True, kw_only=True)
class ViewChoice(ModelChoice):
    """The same with an image size and a fit of its own."""

    image_size: tuple[int, int] | int | None = option(None, IMAGE_SIZE_HELP, image_size, metavar='HxW')
    fit: str | None = option(None, FIT_HELP, choices=Fit.values())

    @property
    def view(self) -> dict:
        """Image size and fit, as `SplitSettings` takes them."""
        return {'image_size': self.image_size, 'fit': self.fit or AUTO}


@dataclass(frozen=True, kw_only=True)
class CutChoice(ViewChoice):
    """The same with several cuts."""

    cut: list[int] | None = option(None, "cut after these blocks (default: the model folder's cut, else half of the depth)",
                                   not_negative_int, nargs='+')


@dataclass(frozen=True, kw_only=True)
class PairChoice:
    """A light and a large model."""

    light: str = option(help="the robot's model: a model folder, or the name of a timm model")
    large: str = option(help='the model off-board, with a code for its patches beside it (`evitif train code --pixels`)')
    light_checkpoint: str | None = option(None, 'a file with weights, for a timm name')
    light_image_size: int | None = option(None, 'pixels, for a timm name', positive_int)
    large_checkpoint: str | None = option(None, 'a file with weights, for a timm name')
    device: str = option('cpu', 'cpu, cuda, cuda:0, mps, …')
    precision: str = option('fp32', 'of the arithmetic', choices=('fp32', 'bf16'))


def _shown(default: Any) -> str:
    if isinstance(default, (tuple, list)):
        return ' '.join(map(str, default))
    return f'{default:g}' if isinstance(default, float) else str(default)
