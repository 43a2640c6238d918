"""Which of timm's classes can be cut, and why the others cannot.

A token has to be a token from the first block to the last, and leaving one out must not move or change the others.
"""

from __future__ import annotations

from torch import nn

from evitif.model.cait import CaitTrunk
from evitif.model.errors import ModelError
from evitif.model.relative_position import BeitTrunk, RelativePositionTrunk
from evitif.model.rotary import RotaryTrunk
from evitif.model.timm_import import timm
from evitif.model.trunk import Trunk

_TRUNKS = {timm.models.eva.Eva: RotaryTrunk, timm.models.beit.Beit: BeitTrunk, timm.models.cait.Cait: CaitTrunk,
           timm.models.vision_transformer_relpos.VisionTransformerRelPos: RelativePositionTrunk}
_PARTS = ('patch_embed', '_pos_embed', 'patch_drop', 'norm_pre', 'norm', 'forward_head', 'num_prefix_tokens', 'global_pool', 'num_classes')
_EXPECTED = 'expected a timm Vision Transformer, such as vit_*, deit3_*, eva02_* or beit_*'
_ENCODER = 'it is the image encoder of a language model: it answers with tokens and has no classifier'
_WITHIN = 'its blocks belong to the encoder of a language model, whose tokens are laid out in a way of its own'
_MERGING = 'its blocks merge neighbouring tokens, so the sequence gets shorter on the way and a lost token cannot be left out'
_REASONS = {        # by the names of timm's classes, since most of them are not imported
    'ConVit': 'its class token joins the patches only after some blocks, and those attend by the positions of the whole grid',
    'CrossVit': 'two sequences of patches of different sizes run through its blocks side by side',
    'DeepseekVitEncoder': _ENCODER, 'Gemma4VitEncoder': _ENCODER, 'Qwen3VitEncoder': _ENCODER,
    'DeepseekVitClassifier': _WITHIN, 'Gemma4VitClassifier': _WITHIN, 'Qwen3VitClassifier': _WITHIN,
    'Hiera': _MERGING, 'HieraDet': _MERGING,
    'MlpMixer': 'its blocks mix a fixed number of tokens by layers of that size, so a lost token cannot be left out',
    'NaFlexVit': 'it takes images of any size and has no grid of its own',
    'TNT': 'its blocks need the pixels within each patch beside the tokens',
    'Twins': 'its blocks attend in windows of the grid of patches and shrink it, so a lost token cannot be left out',
    'VisionTransformerSAM': 'its blocks attend in windows of the grid of patches, so a lost token cannot be left out',
    'Xcit': 'its blocks convolve over the grid of patches, so a lost token cannot be left out',
}


def trunk_of(module: nn.Module) -> Trunk:
    """`module`'s parts. Raises ModelError with the reason where it cannot be cut."""
    kind = next((kind for timm_class, kind in _TRUNKS.items() if isinstance(module, timm_class)), Trunk)
    reason = _why_not(module, kind)
    if reason is not None:
        raise ModelError(f'{type(module).__name__} cannot be cut: {reason}')
    return kind(module)


def require_cuttable(module: nn.Module) -> None:
    """Raise ModelError unless `module` is a Vision Transformer that `SplitModel` can cut."""
    trunk_of(module)


def _why_not(module: nn.Module, kind: type[Trunk]) -> str | None:
    for timm_class in type(module).__mro__:
        if timm_class.__name__ in _REASONS:
            return f'{_REASONS[timm_class.__name__]} ({_EXPECTED})'
    if not isinstance(getattr(module, 'blocks', None), nn.Sequential | nn.ModuleList):
        return f'it has no list of blocks ({_EXPECTED})'
    missing = [part for part in _PARTS if not hasattr(module, part)] if kind is Trunk else []
    if missing:
        return f'it has blocks, but no {", ".join(missing)} ({_EXPECTED})'
    if not len(module.blocks):
        return 'its list of blocks is empty (expected at least one)'
    if kind is Trunk and getattr(module, 'rope', None) is not None:
        return 'its blocks need rotary position embeddings beside the tokens, which timm gives them only in its class Eva'
    if getattr(module.patch_embed, 'grid_size', None) is None:
        return 'its patch embedding has no fixed grid (build it with an image size)'
    if not module.global_pool and module.num_classes:
        return "it pools nothing (its global_pool is ''), so each token has an answer of its own: build it with another, such as avg"
    if kind.needs_fused_attention and any(getattr(part, 'fused_attn', True) is False for part in module.modules()):
        return ("timm's fused attention is switched off (TIMM_FUSED_ATTN=0 in the environment), and without it this class takes no mask: "
                'unset that variable')
    return None
