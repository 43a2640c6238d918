"""Weights of a Vision Transformer under the names of Hugging Face's transformers, renamed to timm's.

ViT, DeiT, MAE and DINOv2 without registers (transformers `modeling_vit.py`, `modeling_deit.py`, `modeling_dinov2.py`) have the same parts
as timm's, where query, key and value are one tensor. Other models of that library are recognised by their names, and refused.
"""

from __future__ import annotations

import re

import torch

from evitif.model.errors import ModelError

_MARK = re.compile(r'(.*?)encoder\.layer\.0\.attention\.attention\.query\.weight')
_OTHERS = re.compile(r'.*(vision_model\.|\blayers?\.\d+\.(self_attn|self_attention|attention)\.)')
_NAMES = (
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^embeddings\.mask_token$', None),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^encoder\.layer\.(\d+)\.layernorm_before\.', r'blocks.\1.norm1.'),
    (r'^encoder\.layer\.(\d+)\.layernorm_after\.', r'blocks.\1.norm2.'),
    (r'^encoder\.layer\.(\d+)\.intermediate\.dense\.', r'blocks.\1.mlp.fc1.'),
    (r'^encoder\.layer\.(\d+)\.output\.dense\.', r'blocks.\1.mlp.fc2.'),
    (r'^encoder\.layer\.(\d+)\.attention\.output\.dense\.', r'blocks.\1.attn.proj.'),
    (r'^encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1$', r'blocks.\1.ls\2.gamma'),
    (r'^encoder\.layer\.(\d+)\.', r'blocks.\1.'),         # DINOv2's norm1, norm2, mlp.fc1, mlp.fc2 are called as timm's
    (r'^layernorm\.', 'norm.'),
    (r'^(cls_)?classifier\.', 'head.'),
    (r'^distillation_classifier\.', 'head_dist.'),
)
_QUERY = re.compile(r'encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)$')


def rename_to_timm(tensors: dict[str, torch.Tensor], origin: str) -> dict[str, torch.Tensor]:
    """The tensors by timm's names, unchanged if they are not Hugging Face's. Raises ModelError for its other models."""
    marks = [match[1] for name in tensors if (match := _MARK.match(name)) and not _is_beit(tensors)]
    if not marks:
        if any(_OTHERS.match(name) for name in tensors) and not any('blocks.0.' in name for name in tensors):
            raise ModelError(f"checkpoint {origin!r} has the names of Hugging Face's transformers, of another model than its ViT, DeiT or "
                             "DINOv2: take the file that timm's hub has of these weights, or rename its tensors as timm's "
                             'checkpoint_filter_fn does')
        return tensors
    prefix = marks[0]
    inner = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    found = {}
    for name, tensor in inner.items():
        query = _QUERY.match(name)
        if query:
            parts = [inner.get(name.replace('.query.', f'.{part}.')) for part in ('query', 'key', 'value')]
            if any(part is None for part in parts):
                raise ModelError(f'checkpoint {origin!r} lacks the key or value beside {name}')
            found[f'blocks.{query[1]}.attn.qkv.{query[2]}'] = torch.cat(parts)
        elif '.attention.attention.key.' not in name and '.attention.attention.value.' not in name:
            own = _timm_name(name)
            if own is not None:
                found[own] = tensor
    head, norm = found.get('head.weight'), found.get('norm.bias')
    if head is not None and norm is not None and head.shape[1] == 2 * len(norm):
        raise ModelError(f"checkpoint {origin!r} is Hugging Face's DINOv2 with a classifier on the class token joined with the mean of "
                         'the others, which no model of timm has')
    return found


def _is_beit(tensors: dict[str, torch.Tensor]) -> bool:
    return any('.lambda_1' in name or 'relative_position_bias' in name for name in tensors)


def _timm_name(name: str) -> str | None:
    for pattern, own in _NAMES:
        if re.match(pattern, name):
            return None if own is None else re.sub(pattern, own, name)
    return name
