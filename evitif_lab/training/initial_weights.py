"""Start a training from another model's weights: of another size, depth, or with other prefix tokens."""

from __future__ import annotations

import json

import torch

from evitif.model.build import BuiltModel, ModelSpec, build_model
from evitif.model.errors import ModelError
from evitif.model.folder import DESCRIPTION_FILE, find_model_folder
from evitif.model.loading import of_classifier
from evitif.wording import few

_SOURCE_SIZES = ('patch_size', 'embed_dim', 'num_heads', 'in_chans')     # that the full architecture is taken in


def start_from(module: torch.nn.Module, class_names: tuple[str, ...], source: str, architecture: str,
               model_kwargs: dict, reset_head: bool = False) -> str:
    """Copy what fits of `source` into `module` and return a sentence that says what did, and what begins anew.

    `source` is 'pretrained' (timm's hub), a checkpoint of the model itself or of the full `architecture`, or a model folder; all
    of a source's own tensors have to be there, but for the classifier with `reset_head`. Patch and position embeddings are
    resampled to the size (timm's own filter of the architecture), blocks beyond the model's depth are
    left out. Prefix tokens that the source lacks get the place of its last one, and a distillation token begins as its
    class token; the norm before a mean over patches begins as the source's last norm. Of a wider source evenly spaced
    channels are taken, the same in each tensor (Xu et al., "Initializing models with larger ones", arXiv 2311.18823). The
    classifier is copied only from a model folder of the same classes, and not with `reset_head`.

    :raises ModelError: the source cannot be built, is not whole, or nothing of its blocks fits
    """
    origin = _origin(source, architecture, model_kwargs, tuple(module.patch_embed.img_size), reset_head)
    own, given = module.state_dict(), origin.module.state_dict()
    same_classes = find_model_folder(source) is not None and origin.class_names == tuple(class_names)
    if reset_head or not same_classes:
        given = {name: tensor for name, tensor in given.items() if not of_classifier(name, origin.module)}
    adapted = _adapted(own, given, origin.module.num_prefix_tokens, module.num_prefix_tokens)
    given |= adapted
    if origin.module.embed_dim > module.embed_dim:
        given = {name: _narrowed(tensor, own[name].shape, origin.module.embed_dim, module.embed_dim) if name in own else tensor
                 for name, tensor in given.items()}
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if not any(name.startswith('blocks.') for name in fitting):
        raise ModelError(f'nothing of the blocks of {source} fits: they have {origin.module.embed_dim} channels, those of the model that '
                         f'is to be trained {module.embed_dim}')
    module.load_state_dict(fitting, strict=False)
    notes = [f'{what}: {few(names)}' for what, names in (
        ('resampled', [name for name in origin.loaded.resized if name in fitting]),
        ('adapted', [name for name in adapted if name in fitting]),
        ('begin anew', [name for name in own if name not in fitting]),
        ('left over in it', origin.loaded.left_over)) if names]
    return '; '.join([f'{len(fitting)} of {len(own)} tensors start from {source}', *notes])


def _origin(source: str, architecture: str, model_kwargs: dict, size: tuple[int, int], reset_head: bool) -> BuiltModel:
    """The model that the weights are of. Of a file it is the one that is to be trained, else the full architecture."""
    if find_model_folder(source) is not None:
        return build_model(ModelSpec(source, image_size=size))
    full = {name: value for name, value in model_kwargs.items() if name in _SOURCE_SIZES}
    whole = {name: value for name, value in model_kwargs.items() if name not in ('img_size', 'num_classes')}
    refused = None
    for kwargs in [full] if source == 'pretrained' or whole == full else [whole, full]:
        spec = ModelSpec(architecture, checkpoint=None if source == 'pretrained' else source, pretrained=source == 'pretrained',
                         image_size=size, model_kwargs=kwargs)
        try:
            origin = build_model(spec, for_training=True, reset_head=reset_head)
            break
        except ModelError as error:
            refused = refused or error
    else:
        raise refused
    if not origin.module.num_classes and not reset_head:
        raise ModelError(f'{source} is a backbone without a classifier: say --reset-head, and a new one is trained')
    return origin


def commands_before(source: str | None) -> list[str]:
    """The commands that made the weights a training starts from, first to last: of a model folder those that it names, else none."""
    folder = None if source in (None, 'pretrained') else find_model_folder(source)
    try:
        made_by = json.loads((folder / DESCRIPTION_FILE).read_text())['made_by'] if folder else {}
        return [*made_by.get('after', []), *([made_by['command']] if made_by.get('command') else [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []       # a folder that says nothing of it, or that another program wrote


def _adapted(own: dict, given: dict, given_prefix: int, own_prefix: int) -> dict[str, torch.Tensor]:
    """The tensors of `given` that the other model has in another form."""
    adapted = {}
    position = given.get('pos_embed')
    if position is not None and given_prefix != own_prefix:
        prefix, patches = position[:, :given_prefix], position[:, given_prefix:]
        more = prefix[:, -1:].expand(-1, max(0, own_prefix - given_prefix), -1)
        adapted['pos_embed'] = torch.cat((prefix[:, :own_prefix], more, patches), 1)
    if 'dist_token' in own and 'dist_token' not in given and 'cls_token' in given:
        adapted['dist_token'] = given['cls_token'].clone()
        adapted |= {name.replace('head.', 'head_dist.'): given[name] for name in ('head.weight', 'head.bias') if name in given}
    if 'fc_norm.weight' in own and 'norm.weight' not in own:
        adapted |= {name.replace('norm.', 'fc_norm.'): given[name] for name in ('norm.weight', 'norm.bias') if name in given}
    return adapted


def _narrowed(tensor: torch.Tensor, shape: torch.Size, given_width: int, own_width: int) -> torch.Tensor:
    """`tensor` with evenly spaced channels left of each dimension that grows with the width and is not yet of that size."""
    for dimension, (given, own) in enumerate(zip(tensor.shape, shape)):
        if given != own and given * own_width == own * given_width:     # the q, k and v of one tensor are evenly spaced as well
            tensor = tensor.index_select(dimension, torch.arange(own) * given // own)
    return tensor
