"""Build a Vision Transformer from timm: pretrained from a hub, from a file, from a model folder, or random with a seed.

A *model folder* holds `model.safetensors` and `model.json` (architecture, its keyword arguments, preprocessing, class
names, where it comes from); `evitif train model` writes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evitif.files import read_json
from evitif.image_size import image_size_of
from evitif.model.errors import ModelError
from evitif.model.folder import DESCRIPTION_FILE, find_model_folder
from evitif.model.loading import Loaded, load_whole
from evitif.model.preprocess import AUTO, data_config_of, seen_as, tuples_of
from evitif.model.pretrained import OtherSizeError, build_from_file, build_from_hub
from evitif.model.resize import patch_size_of, require_fitting_size, resize
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
    (timm's hub) or `random_seed`. Classes and image size follow the file or the folder; `num_classes` other than its are refused.
    `image_size`, pixels of a square's side or (height, width), resamples the positions (`resize`); `fit` is one of `Fit`, or AUTO for the
    model's own.
    """

    model: str
    checkpoint: str | None = None
    pretrained: bool = False
    random_seed: int | None = None
    num_classes: int | None = None
    image_size: int | tuple[int, int] | list[int] | None = None
    model_kwargs: dict = field(default_factory=dict)
    fit: str = AUTO

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of `image_size`. Raises ValueError where it is none."""
        return None if self.image_size is None else image_size_of(self.image_size)


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
    native: dict = field(default_factory=dict)      # the data_config before image size and fit were changed


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
    # Of weights that are only a beginning nobody asks whose they were.
    begins = spec.size is not None and (for_training or spec.random_seed is not None)
    if begins:
        arguments['img_size'] = spec.size if spec.size[0] != spec.size[1] else spec.size[0]

    def create(arguments: dict) -> nn.Module:
        return _create(spec.model, arguments, spec.random_seed or 0)

    loaded = Loaded()
    if spec.checkpoint is not None:
        path = Path(spec.checkpoint).expanduser()
        if not path.is_file():
            raise ModelError(f'checkpoint {spec.checkpoint!r} does not exist or is not a file')
        module, loaded = build_from_file(spec.model, path, arguments, create, for_training=for_training, reset_head=reset_head,
                                         likely_size=spec.size)
    elif spec.pretrained:
        module, loaded = build_from_hub(spec.model, arguments, create, reset_head=reset_head)
    else:
        module = create(arguments)
    class_names, labels = _imagenet_labels(module)
    return _seeing(spec, BuiltModel(spec.model, module, class_names, labels, data_config_of(module), {}, loaded))


def _seeing(spec: ModelSpec, built: BuiltModel) -> BuiltModel:
    """The model with the image size and the fit that were asked for."""
    module: Any = built.module
    resized, native = (), built.data_config
    if spec.size is not None and getattr(getattr(module, 'patch_embed', None), 'grid_size', None) is not None:
        require_fitting_size(built.name, patch_size_of(module), spec.size)
    if spec.size is not None and tuple(native['input_size'][1:]) != spec.size:
        resized = resize(module, built.name, spec.size)
    if spec.fit != AUTO:
        seen = seen_as(native, None, spec.fit)
        module.pretrained_cfg = {**module.pretrained_cfg, 'crop_mode': seen['crop_mode'], 'crop_pct': seen['crop_pct']}
    loaded = replace(built.loaded, resized=(*built.loaded.resized, *resized))
    return replace(built, data_config=data_config_of(module), loaded=loaded, native=native)


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
    module = _create(description['architecture'], arguments, seed=0)
    weights = folder / WEIGHTS_FILE
    try:
        tensors = load_weights(weights)
    except (OSError, SafetensorError) as error:
        raise ModelError(f'{weights}: cannot be read: {shortened(error)}') from None
    load_whole(module, tensors, str(weights), description['architecture'])
    class_names = tuple(description['class_names'])
    labels = tuple(description.get('labels') or class_names)
    return _seeing(spec, BuiltModel(str(description.get('name') or folder.name), module, class_names, labels, data_config_of(module),
                                    description))


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
