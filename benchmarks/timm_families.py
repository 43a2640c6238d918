"""Which of timm's Vision Transformers can be cut, tried one by one with random weights.

Builds each architecture small (three blocks, four patches a side, few channels), makes all its weights random and cuts it. Compares head
and tail with the model's own forward pass, tokens left out with a forward pass from which hooks take the tokens and their positions away,
and tokens of weight 0 with tokens left out. Then quantises the tokens and loses half of them. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.part import ROOT, as_json, command
from evitif.files import write_json, write_text
from evitif.model.cuttable import require_cuttable
from evitif.model.errors import ModelError
from evitif.model.quantise import TokenQuantiser
from evitif.model.split import SplitModel
from evitif.model.timm_import import timm
from evitif.recovery import METHODS
from evitif_lab.commands.progress import Progress

TITLE = "timm's Vision Transformers"
MODULES = ('beit', 'cait', 'convit', 'crossvit', 'deepseek_vit', 'deit', 'eva', 'gemma4_vit', 'hiera', 'hieradet_sam2', 'naflexvit',
           'qwen3_vit', 'tnt', 'twins', 'vision_transformer', 'vision_transformer_hybrid', 'vision_transformer_relpos',
           'vision_transformer_sam', 'vitamin', 'xcit')
# The first that fits a name, or the module's name where none does.
FAMILIES = {
    'DINOv3': '*dinov3*', 'DINOv2': '*dinov2*', 'SigLIP': '*siglip*', 'EVA-02': 'eva02*', 'EVA': 'eva_*', 'Perception Encoder': 'vit_pe_*',
    'ViTamin': 'vitamin*', 'CLIP': '*clip*', 'MobileCLIP': '*_mci_*', 'BEiT': 'beit*', 'DeiT III': 'deit3*', 'DeiT': 'deit_*',
    'CaiT': 'cait*',
    'ROPE-ViT and other rotary positions': '*_rope*', 'relative positions': '*relpos*', 'SAM': 'sam*', 'AIMv2': 'aimv2*',
    'I-JEPA': '*ijepa*', 'Sapiens 2': '*sapiens*', 'NaFlex ViT': 'naflex*', 'Hiera': '*hiera*', 'XCiT': 'xcit*', 'CrossViT': 'crossvit*',
    'ConViT': 'convit*', 'Twins': 'twins*', 'TNT': 'tnt*'}
TITLES = {'vision_transformer': 'ViT', 'vision_transformer_hybrid': 'ViT behind a convolutional network',
          'eva': "others of timm's class Eva", **dict.fromkeys(('deepseek_vit', 'gemma4_vit', 'qwen3_vit'), 'encoders of language models')}
EXACT = 2e-5        # of logits of a size of about 1, where the arithmetic is the same in another order


def architectures(patterns: Sequence[str]) -> dict[str, str]:
    """timm's Vision Transformers: name to the module that defines it."""
    return {name: module for module in MODULES for name in timm.list_models(module=module)
            if any(fnmatch(name, pattern) for pattern in patterns)}


def family_of(name: str, module: str) -> str:
    """What family an architecture belongs to."""
    return next((family for family, pattern in FAMILIES.items() if fnmatch(name, pattern)), TITLES.get(module, module))


def small(name: str, native: nn.Module) -> nn.Module:
    """The architecture, of which `native` is an instance, with three blocks of few channels (behind a convolutional network as many as they
    have), four patches a side and five classes, with random values everywhere."""
    attentions = [block.attn for block in native.blocks if hasattr(block, 'attn')]
    embedding = native.patch_embed
    arguments = {'depth': 3, 'num_classes': 5, 'img_size': 4 * (embedding.img_size[0] // embedding.grid_size[0])}
    if not native.global_pool:
        arguments['global_pool'] = 'avg'
    heads = getattr(attentions[0], 'num_heads', 0) if attentions else 0
    if native.embed_dim > 256 and heads and not hasattr(embedding, 'backbone'):
        few = 6 if hasattr(native.blocks[0].mlp, 'chunk_dim') else 4         # a packed gated MLP needs an even number of units
        arguments.update(embed_dim=few * (native.embed_dim // heads), num_heads=few)
        if hasattr(attentions[0], 'num_kv_heads'):
            arguments['num_kv_heads'] = 2 if any(attention.num_kv_heads != heads for attention in attentions) else few
    module = timm.create_model(name, **arguments).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for path, parameter in module.named_parameters():
            if path.startswith('patch_embed.backbone'):     # has random values already, and many layers that would multiply more
                continue
            spread = 0.1 if parameter.dim() < 2 else min(0.1, parameter.shape[-1] ** -0.5)
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return module


def forward_without(module: nn.Module, image: torch.Tensor, cut: int, kept: torch.Tensor, prefix: int) -> torch.Tensor:
    """Logits [1, classes] of the model's own `forward` of one image, with hooks that drop all but the `kept` tokens [1, M] before block
    `cut` and take from the positions that come beside the tokens what is of the kept ones, as timm's own patch dropout does."""
    from timm.layers import apply_keep_indices_nlc
    undo: list[Callable[[], None]] = []

    def drop(index: int, _block: nn.Module, arguments: tuple, options: dict) -> tuple:
        tokens = arguments[0][:, kept[0]] if index == cut else arguments[0]
        if options.get('rope') is not None:
            rope = apply_keep_indices_nlc(tokens, options['rope'], kept[:, prefix:] - prefix)
            options = {**options, 'rope': rope if rope.dim() == 4 else rope[:, None]}
        for name in ('shared_rel_pos', 'shared_rel_pos_bias'):
            if options.get(name) is not None:
                options = {**options, name: of_the_kept(options[name])}
        return (tokens,), options

    def of_the_kept(bias: torch.Tensor) -> torch.Tensor:
        return bias[..., kept[0], :][..., kept[0]]

    for index, block in list(enumerate(module.blocks))[cut:]:
        undo.append(block.register_forward_pre_hook(partial(drop, index), with_kwargs=True).remove)
        for owner, name in _own_biases(getattr(block, 'attn', None)):
            setattr(owner, name, partial(lambda whole: of_the_kept(whole()), getattr(owner, name)))
            undo.append(partial(delattr, owner, name))
    try:
        return module(image)
    finally:
        for step in undo:
            step()


def _own_biases(attention: nn.Module | None) -> list[tuple[nn.Module, str]]:
    """Whose methods of which name give a block its own relative position bias."""
    if getattr(attention, 'relative_position_bias_table', None) is not None:
        return [(attention, '_get_rel_pos_bias')]
    return [(attention.rel_pos, 'get_bias')] if getattr(attention, 'rel_pos', None) is not None else []


@torch.inference_mode()
def tried(name: str) -> dict:
    """Largest differences of logits, over cuts 0, 1 and 3 (all blocks), of two images; or the reason of a refusal."""
    with torch.device('meta'):
        native = timm.create_model(name)
    about = {'timm_class': type(native).__name__, 'classes': native.num_classes}
    try:
        require_cuttable(native)
    except ModelError as error:
        return {**about, 'refused': str(error)}
    module = small(name, native)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, *SplitModel(module, 0).image_size, generator=generator)
    whole = module(images)
    differences = {'cut': 0.0, 'left_out': 0.0, 'weight_0': 0.0}
    for cut in (0, 1, 3):
        split = SplitModel(module, cut)
        tokens = split.head(images)
        differences['cut'] = max(differences['cut'], _distance(split.tail(tokens), whole))
        if cut == 3:
            continue
        kept = _half(split, generator)
        for index in (0, 1):
            one = slice(index, index + 1)
            alone = forward_without(module, images[one], cut, kept[one], split.prefix_tokens)
            differences['left_out'] = max(differences['left_out'], _distance(split.tail(tokens[one], kept[one]), alone))
        if split.takes_key_bias:
            weights = torch.full(tokens.shape[:2], -torch.inf).scatter(1, kept, 0.0)
            weighed = _distance(split.tail(tokens, key_bias=weights), split.tail(tokens, kept))
            differences['weight_0'] = max(differences['weight_0'], weighed)
    return {**about, 'tokens': split.tokens, 'prefix_tokens': split.prefix_tokens, 'differences': differences,
            'takes_weights': split.takes_key_bias, 'coded': _coded(SplitModel(module, 1), images)}


def _half(split: SplitModel, generator: torch.Generator) -> torch.Tensor:
    """The prefix tokens and half of the patches, others for each of two images: int64 [2, M]."""
    patches = split.tokens - split.prefix_tokens
    chosen = torch.stack([torch.randperm(patches, generator=generator)[:max(1, patches // 2)].sort().values for _ in range(2)])
    return torch.cat((torch.arange(split.prefix_tokens).expand(2, -1), chosen + split.prefix_tokens), 1)


def _coded(split: SplitModel, images: torch.Tensor) -> bool:
    """Whether an answer comes of tokens that travelled as int8 and of which half were lost."""
    quantiser = TokenQuantiser('int8', split.channels)
    tokens = torch.from_numpy(quantiser.dequantise(quantiser.quantise(split.head(images[:1])[0].numpy())))[None]
    received = torch.zeros(1, split.tokens, dtype=torch.bool)
    received[0, ::2] = True
    omission = METHODS['omission'](split.blank_tokens(), split.prefix_tokens, split.grid)
    return bool(omission.recover(tokens, received, torch.tensor([0.5])).logits(split).isfinite().all())


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))


def works(result: dict) -> bool:
    """Whether an architecture does all that it should."""
    return 'differences' in result and result['coded'] and result['differences']['cut'] == 0 and max(result['differences'].values()) < EXACT


def page(results: dict[str, dict], version: str) -> str:
    """The results as Markdown."""
    families: dict[str, list[dict]] = {}
    for result in results.values():
        families.setdefault(result['family'], []).append(result)
    lines = ["# timm's Vision Transformers", '', f'`{command("timm_families")}`, with timm {version}.', '',
             'An architecture *works* if three things hold for a small one with random weights: head and tail together answer as the model '
             'does, bit for bit; with tokens left out they answer as the model does without them, the others keeping their positions; and '
             'half of the int8 tokens still give an answer. *Weights* counts those that timm offers for download '
             '(`timm.list_pretrained`).', '',
             '| family | architectures | work | weights | work |', '| --- | ---: | ---: | ---: | ---: |']
    for family, members in sorted(families.items(), key=lambda item: -sum(member['weights'] for member in item[1])):
        lines.append(_row(family, members))
    bare = sorted(name for name, result in results.items() if works(result) and not result['classes'])
    lines += [_row('all', list(results.values())), '', '## Without a classifier', '',
              'With timm\'s default weights these give features, not classes. Fine-tune them on your classes first: '
              '`evitif train model --architecture NAME --initial-weights pretrained`.', '', ', '.join(bare), '',
              '## Refused', '', '| timm class | architectures | weights | reason |', '| --- | ---: | ---: | --- |']
    reasons: dict[tuple[str, str], list[dict]] = {}
    for result in results.values():
        if 'refused' in result:
            reasons.setdefault((result['timm_class'], result['refused'].split(': ', 1)[1].split(' (expected')[0]), []).append(result)
    lines += [f'| {timm_class} | {len(members)} | {sum(member["weights"] for member in members)} | {reason} |'
              for (timm_class, reason), members in sorted(reasons.items(), key=lambda item: -len(item[1]))]
    failed = {name: result for name, result in results.items() if 'refused' not in result and not works(result)}
    if failed:
        lines += ['', '## Accepted, but they do not work', '', *(f'- `{name}`: {json.dumps(result)}' for name, result in failed.items())]
    return '\n'.join(lines) + '\n'


def _row(family: str, members: list[dict]) -> str:
    good = [member for member in members if works(member)]
    return (f'| {family} | {len(members)} | {len(good)} | {sum(member["weights"] for member in members)} | '
            f'{sum(member["weights"] for member in good)} |')


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `evitif bench timm_families`."""
    parser.add_argument('--only', nargs='+', default=('*',), metavar='PATTERN', help='architectures by name, as vit_*_dinov3')
    parser.set_defaults(output=ROOT / 'docs' / 'results')


def run(output: Path, only: Sequence[str] = ('*',)) -> dict:
    """Try the architectures, and write timm.json and timm.md."""
    weights = Counter(name.split('.')[0] for name in timm.list_pretrained())
    results = {}
    for name, module in Progress(architectures(only).items(), unit='architecture'):
        results[name] = {'family': family_of(name, module), 'weights': weights[name]}
        try:
            results[name].update(tried(name))
        except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError) as error:
            results[name]['error'] = f'{type(error).__name__}: {error}'[:300]
    report = {'timm': timm.__version__, 'architectures': results}
    write_json(output / 'timm.json', as_json(report))
    write_text(output / 'timm.md', page(results, timm.__version__))
    return {**report, 'targets': []}


def section(result: dict, _images: Path) -> str:
    """The table of families."""
    return page(result['architectures'], result['timm']).split('## Without')[0]
