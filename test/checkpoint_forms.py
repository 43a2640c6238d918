"""One state dict in the forms in which training programs and hubs save it."""

import argparse
import re

_HUGGING_FACE = (
    ('cls_token', 'embeddings.cls_token'), ('pos_embed', 'embeddings.position_embeddings'),
    ('patch_embed.proj', 'embeddings.patch_embeddings.projection'), ('.norm1', '.layernorm_before'), ('.norm2', '.layernorm_after'),
    ('.mlp.fc1', '.intermediate.dense'), ('.mlp.fc2', '.output.dense'), ('.attn.proj', '.attention.output.dense'),
    ('blocks.', 'encoder.layer.'))


def under(prefix: str, weights: dict) -> dict:
    """The weights with a prefix before each name."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def hugging_face(weights: dict) -> dict:
    """By the names of transformers' ViTForImageClassification."""
    renamed = {}
    for name, tensor in weights.items():
        joint = re.match(r'blocks\.(\d+)\.attn\.qkv\.(weight|bias)', name)
        if joint:
            for part, third in zip(('query', 'key', 'value'), tensor.chunk(3), strict=True):
                renamed[f'vit.encoder.layer.{joint[1]}.attention.attention.{part}.{joint[2]}'] = third.clone()
            continue
        if name.startswith('head.'):
            renamed[name.replace('head.', 'classifier.')] = tensor
            continue
        name = re.sub(r'^norm\.', 'layernorm.', name)
        for own, theirs in _HUGGING_FACE:
            name = name.replace(own, theirs)
        renamed[f'vit.{name}'] = tensor
    return renamed


def forms(weights: dict) -> dict[str, dict]:
    """What torch.save was given, by a name for the form."""
    worse = {name: tensor + 1 for name, tensor in weights.items()}       # of which nothing may come through
    prefixes = ('module.', 'backbone.', 'model.', 'teacher.', 'student.', 'module.backbone.', 'net.', 'encoder.', '_orig_mod.',
                'module._orig_mod.', 'ema_model.module.', 'anything.at.all.')
    wrappers = ('state_dict', 'model', 'model_state_dict', 'state_dict_ema', 'model_ema', 'net', 'teacher', 'student', 'ema', 'unheard_of')
    return {
        'plain': weights,
        **{f'names begin with {prefix}': under(prefix, weights) for prefix in prefixes},
        **{f'under {wrapper}': {wrapper: weights, 'epoch': 3} for wrapper in wrappers},
        'timm': {'state_dict': worse, 'state_dict_ema': weights, 'args': argparse.Namespace(lr=1.0), 'arch': 'x',
                 'optimizer': {'state': {0: {'exp_avg': weights['head.bias']}}, 'param_groups': []}},
        'Lightning': {'state_dict': under('model.', weights), 'pytorch-lightning_version': '2.1', 'optimizer_states': [{'state': {}}]},
        'DINO': {'student': under('module.backbone.', worse), 'teacher': under('backbone.', weights), 'epoch': 5},
        'teacher and student by names': {**under('student.backbone.', worse), **under('teacher.backbone.', weights)},
        'a classifier beside the backbone': {**under('backbone.', {name: tensor for name, tensor in weights.items() if 'head' not in name}),
                                             **{name: tensor for name, tensor in weights.items() if 'head' in name}},
        'nested': {'model': {'state_dict': under('module.', weights)}},
        'Hugging Face': hugging_face(weights),
    }
