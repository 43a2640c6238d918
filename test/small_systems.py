"""What the strategies `selection` and `partition` need on disk, small and of random weights, for the tests that run them."""

from dataclasses import asdict
from pathlib import Path

import torch

from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.code_artifact import half_precision, save_code
from evitif.model.fingerprint import fingerprint
from evitif.model.folder import artifact_path
from evitif.model.split import SplitModel

CLASSES = ['ant', 'bee', 'cat', 'dog', 'elk', 'fox']
ARCHITECTURE = 'vit_tiny_patch16_224'
DATA = {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic', 'crop_pct': 1.0, 'crop_mode': 'center'}
DEVICES = ('left', 'middle', 'right')


def write_model(folder: Path, width: int, seed: int) -> None:
    """A model folder: 3 blocks, 4 x 4 patches."""
    kwargs = {'embed_dim': width, 'depth': 3, 'num_heads': 2, 'patch_size': 8, 'img_size': 32}
    module = build_model(ModelSpec(ARCHITECTURE, random_seed=seed, num_classes=len(CLASSES), model_kwargs=kwargs)).module
    for parameter in module.parameters():
        parameter.data.mul_(3)          # random weights as they come are never sure of anything
    save_model(folder, module, {'architecture': ARCHITECTURE, 'model_kwargs': kwargs, 'class_names': CLASSES, 'pretrained_cfg': DATA})


def write_pair(folder: Path, *, eta: float = 0.0, delta: float = 0.5, seed: int = 1) -> tuple[str, str]:
    """A light and a large model that belong together; by default the light one is never sure, and sends half of the scores."""
    from evitif.selection import PatchModel, Pixels, Selection, SelectionArtifact, save_selection
    from evitif.selection.artifact import FILE
    from evitif.selection.patch_code import KIND
    from evitif_lab.training.transform_code import fit_code
    light, large = folder / 'light', folder / 'large'
    write_model(light, 16, seed)
    write_model(large, 32, seed + 100)
    built, light_built = build_model(ModelSpec(str(large))), build_model(ModelSpec(str(light)))
    identity = fingerprint(built.module, 0)
    model = PatchModel(SplitModel(built.module, 0))
    coarse = torch.randn(100, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    images = torch.nn.functional.interpolate(coarse, (32, 32), mode='bicubic')
    code = half_precision(fit_code(model.head(images.tanh()), 0, torch.eye(model.channels, dtype=torch.float64)[None]))
    save_code(artifact_path(large, 0, KIND), code, {
        'model': 'large', 'fingerprint': identity, 'cut': 0, 'default': 'klt1', 'figures': {},
        **Pixels.describe(model, built.class_names, built.labels, built.data_config)}, KIND)
    settings = Selection(classes=len(CLASSES), delta=delta, eta=eta, prior_weight=0.5)
    save_selection(light / FILE, SelectionArtifact(settings, str(light), fingerprint(light_built.module), str(large), identity, {}))
    return str(light), str(large)


def write_patch_code(large: Path | str) -> None:
    """An entropy code of the patches of a large model of `write_pair` beside it, so that it serves robots without a model."""
    from evitif.model.entropy_artifact import half_precision as rounded
    from evitif.model.entropy_artifact import save_entropy_code
    from evitif.selection import PatchModel, Pixels
    from evitif.selection.patch_code import ENTROPY_KIND
    from evitif_lab.training.entropy_code import fit_entropy_code
    built = build_model(ModelSpec(str(large)))
    model = PatchModel(SplitModel(built.module, 0))
    random = torch.Generator().manual_seed(5)
    images = torch.nn.functional.interpolate(torch.randn(100, 3, 5, 5, generator=random), (40, 40), mode='bicubic').tanh()
    still, moved = (model.head(images[:, :, at:at + 32, at:at + 32]) for at in (4, 5))
    code = rounded(fit_entropy_code(still, 0, model.grid, torch.eye(model.channels, dtype=torch.float64)[None] / 10,
                                    torch.eye(model.tokens, dtype=torch.float64), torch.stack((still, moved), 1)[:30], kept=32))
    sizes = {str(step): sum(float(code.plan(code.quantise(each), step).bits.sum()) / 80 for each in still[:10].numpy())
             for step in (8, 14, 20, 26)}
    cost = {'coding': dict(zip(sizes, (0.0, 0.001, 0.05, 0.2), strict=True)), 'bytes': sizes, 'lost': [[0.0, 0.0], [1.0, 0.8]]}
    save_entropy_code(artifact_path(large, 0, ENTROPY_KIND), code, {
        'model': 'large', 'fingerprint': fingerprint(built.module, 0), 'cut': 0, 'figures': {'coding_cost': cost},
        **Pixels.describe(model, built.class_names, built.labels, built.data_config)}, ENTROPY_KIND)


def write_partition(folder: Path, seed: int = 1) -> str:
    """A partition of six classes among three devices, each with two of them."""
    from evitif.partition.artifact import save_partition
    from evitif.partition.fusion import FusionNetwork
    from evitif.partition.slicing import Shape, blank
    shapes, subsets = [Shape(16, 2, 8, 32), Shape(12, 1, 8, 16), Shape(16, 1, 8, 16)], [(0, 1), (2, 3), (4, 5)]
    kwargs = {'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'patch_size': 8, 'img_size': 32}
    modules = []
    for number, (shape, own) in enumerate(zip(shapes, subsets, strict=True)):
        built = build_model(ModelSpec(ARCHITECTURE, random_seed=seed, num_classes=len(CLASSES), model_kwargs=kwargs))
        module = blank(built.module, shape, len(own) + 1)
        generator = torch.Generator().manual_seed(seed + number)
        for parameter in module.parameters():
            parameter.data.copy_((torch.randn(parameter.shape, generator=generator) / 5).half().float())
        modules.append(module)
    generator = torch.Generator().manual_seed(seed)
    fusion = FusionNetwork(len(DEVICES), 16, len(CLASSES), 8)
    for parameter in fusion.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator).half().float())
    save_partition(folder, modules, fusion, {
        'original': '12' * 32, 'model': 'small', 'architecture': ARCHITECTURE, 'model_kwargs': kwargs, 'class_names': CLASSES,
        'labels': CLASSES, 'data_config': DATA, 'redundancy': 1, 'features': 16, 'figures': {}, 'made_by': {},
        'devices': [{'name': name, 'classes': list(own), 'shape': asdict(shape), 'parameters': 1, 'multiply_adds': 1}
                    for name, own, shape in zip(DEVICES, subsets, shapes, strict=True)]})
    return str(folder)
