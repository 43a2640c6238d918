"""Build a Vision Transformer from timm: pretrained from a hub, from a file, from a model folder, or random with a seed.

A *model folder* holds `model.safetensors` and `model.json` (architecture, its keyword arguments, preprocessing, class
names, where it comes from); `evitif train model` writes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from evitif.files import read_json
from evitif.model.errors import ModelError
from evitif.model.folder import DESCRIPTION_FILE, find_model_folder
from evitif.model.loading import Loaded, load_whole
from evitif.model.preprocess import data_config_of, tuples_of
from evitif.model.pretrained import OtherSizeError, build_from_file, build_from_hub
from evitif.model.stored_weights import load_weights, pack_weights
from evitif.model.tensors import write_described
from evitif.model.timm_import import timm
from evitif.typed_json import typed
from evitif.wording import shortened

WEIGHTS_FILE, FORMAT = 'model.safetensors', 1


@dataclass(frozen=True)
class _Required:
    """What `model.json` has to say."""

    architecture: str
    model_kwargs: dict
    pretrained_cfg: dict
    class_names: list[str]


@dataclass(frozen=True)
class ModelSpec:
    """What to build. `model` is a timm name or a model folder.

    For a timm name exactly one source of weights has to be given: `checkpoint` (a file, `evitif.model.checkpoint_file`), `pretrained`
    (timm's hub) or `random_seed`. Classes and image size follow the file; `num_classes` other than its are refused, `image_size`
    (pixels, square) resizes the position embedding.
    """

    model: str
    checkpoint: str | None = None
    pretrained: bool = False
    random_seed: int | None = None
    num_classes: int | None = None
    image_size: int | None = None
    model_kwargs: dict = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltModel:
    """A model in evaluation mode on the CPU in float32, with what belongs to it."""

    name: str
    module: nn.Module
    class_names: tuple[str, ...]  # identifiers: folder names, WordNet ids
    labels: tuple[str, ...]       # for people
    data_config: dict             # timm.data.resolve_model_data_config: input size, mean, std, crop, interpolation
    description: dict             # model.json, empty for a timm name
    loaded: Loaded = Loaded()     # what became of the file's tensors


def build_model(spec: ModelSpec, *, for_training: bool = False, reset_head: bool = False) -> BuiltModel:
    """Build what `spec` says (see `find_model_folder`); every tensor comes from the weights that it names.

    :param for_training: the model is only what a training starts from: patches of another size are resampled
    :param reset_head: the weights may lack the classifier, which is then random
    :raises ModelError: naming the value and what was expected; for weights, what is missing and what is left over
    """
    folder = find_model_folder(spec.model)
    if folder is not None:
        return _from_folder(folder, spec)
    if '/' in spec.model and not spec.model.startswith('hf-hub:'):
        raise ModelError(f'model folder {spec.model!r} does not exist (expected a folder with {DESCRIPTION_FILE} and '
                         f'{WEIGHTS_FILE}, or the name of a timm model)')
    sources = [spec.checkpoint is not None, spec.pretrained, spec.random_seed is not None]
    if sum(sources) != 1:
        raise ModelError(f'model {spec.model!r}: expected exactly one source of weights (checkpoint, pretrained or '
                         f'random_seed), got checkpoint={spec.checkpoint!r}, pretrained={spec.pretrained}, '
                         f'random_seed={spec.random_seed!r}')
    arguments = dict(spec.model_kwargs)
    if spec.num_classes is not None:
        arguments['num_classes'] = spec.num_classes
    if spec.image_size is not None:
        arguments['img_size'] = spec.image_size

    def create(arguments: dict) -> nn.Module:
        return _create(spec.model, arguments, spec.random_seed or 0)

    loaded = Loaded()
    if spec.checkpoint is not None:
        path = Path(spec.checkpoint).expanduser()
        if not path.is_file():
            raise ModelError(f'checkpoint {spec.checkpoint!r} does not exist or is not a file')
        module, loaded = build_from_file(spec.model, path, arguments, create, for_training=for_training, reset_head=reset_head)
    elif spec.pretrained:
        module, loaded = build_from_hub(spec.model, arguments, create, reset_head=reset_head)
    else:
        module = create(arguments)
    class_names, labels = _imagenet_labels(module)
    return BuiltModel(spec.model, module, class_names, labels, data_config_of(module), {}, loaded)


def save_model(folder: Path | str, module: nn.Module, description: dict, stored_as: str = 'float32') -> None:
    """Write a model folder. `description` has `architecture`, `model_kwargs`, `pretrained_cfg`, `class_names`, …; `stored_as`
    is one of `stored_weights.STORED_AS`."""
    folder = Path(folder)
    write_described(folder / DESCRIPTION_FILE, {'format': FORMAT, **description}, folder / WEIGHTS_FILE,
                    pack_weights(module.state_dict(), stored_as))


def read_description(folder: Path | str) -> dict:
    """Read and check `model.json`. Raises ModelError."""
    path = Path(folder).expanduser() / DESCRIPTION_FILE
    try:
        description = read_json(path)
    except OSError as error:
        raise ModelError(f'{path}: cannot be read: {error.strerror}') from None
    except ValueError as error:
        raise ModelError(str(error)) from None
    if not isinstance(description, dict) or description.get('format') != FORMAT:
        found = description.get('format') if isinstance(description, dict) else description
        raise ModelError(f'{path}: expected format {FORMAT}, found {found!r}')
    try:
        typed(_Required, description)
    except ValueError as error:
        raise ModelError(f'{path}: {error}') from None
    return description


def _from_folder(folder: Path, spec: ModelSpec) -> BuiltModel:
    from safetensors import SafetensorError
    description = read_description(folder)
    if spec.checkpoint is not None or spec.pretrained or spec.random_seed is not None:
        raise ModelError(f'model folder {spec.model!r} brings its own weights: checkpoint, pretrained and random_seed '
                         'have to be left out')
    if spec.num_classes not in (None, len(description['class_names'])):
        raise ModelError(f'model folder {spec.model!r} has {len(description["class_names"])} classes, '
                         f'num_classes={spec.num_classes} was asked for')
    arguments = {**description['model_kwargs'], 'num_classes': len(description['class_names']),
                 'pretrained_cfg_overlay': tuples_of(description['pretrained_cfg'])}
    if spec.image_size not in (None, arguments.get('img_size')):
        raise ModelError(f'model folder {spec.model!r} was made for image size {arguments.get("img_size")}, '
                         f'image_size={spec.image_size} was asked for')
    module = _create(description['architecture'], arguments, seed=0)
    weights = folder / WEIGHTS_FILE
    try:
        tensors = load_weights(weights)
    except (OSError, SafetensorError) as error:
        raise ModelError(f'{weights}: cannot be read: {shortened(error)}') from None
    load_whole(module, tensors, str(weights), description['architecture'])
    class_names = tuple(description['class_names'])
    labels = tuple(description.get('labels') or class_names)
    return BuiltModel(str(description.get('name') or folder.name), module, class_names, labels, data_config_of(module),
                      description)


def _create(architecture: str, arguments: dict, seed: int) -> nn.Module:
    if not timm.is_model(architecture.split('.')[0]) and not architecture.startswith('hf-hub:'):
        close = timm.list_models(f'*{architecture.split("_")[0]}*')[:5]
        raise ModelError(f'timm {timm.__version__} has no model {architecture!r}'
                         + (f' (some that it has: {", ".join(close)})' if close else '')
                         + '; a model folder was not found under that name either')
    generator_state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        module = timm.create_model(architecture, **arguments).eval()
        module.pretrained_cfg.pop('state_dict', None)       # the file's own tensors
        return module
    except (ModelError, OtherSizeError):
        raise
    except Exception as error:  # timm and its hub raise many kinds; all mean: no model
        asked = {name: value for name, value in arguments.items() if name not in ('pretrained', 'pretrained_cfg_overlay')}
        raise ModelError(f'model {architecture!r} could not be built with {asked or "its defaults"}: {shortened(error, 300)}') from error
    finally:
        torch.set_rng_state(generator_state)


def _imagenet_labels(module: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names for ImageNet's classes; numbered ones for any other count."""
    count = getattr(module, 'num_classes', 0)
    subset = timm.data.infer_imagenet_subset(module)
    if subset is None:
        names = tuple(f'class {index}' for index in range(count))
        return names, names
    information = timm.data.ImageNetInfo(subset)
    names = tuple(information.label_names())
    return names, tuple(information.index_to_description(index).split(',')[0] for index in range(len(names)))
