"""Divide a model among devices: subsets, pruning and placement, retraining, fusion. Each step keeps its result in
`<output>/steps`, so that it can be run alone and an interrupted training goes on; the last one writes the artifact."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from evitif.datasets import judging_split, open_images
from evitif.model.errors import ArtifactError
from evitif.partition.artifact import DESCRIPTION_FILE, read_partition, save_partition
from evitif.partition.checks import check_subsets
from evitif.partition.slicing import Shape, blank
from evitif.partition.view import View
from evitif.wording import shortened
from evitif_lab.partition.placement import Placed, place
from evitif_lab.partition.pruning import Limit, Size, prune, size_within
from evitif_lab.partition.sizes import parameters_of, shape_of
from evitif_lab.partition.subsets import random_subsets, similar_subsets, with_redundancy
from evitif_lab.plain import plain
from evitif_lab.training.finished import differs
from evitif_lab.training.judging import accuracy_words, judged_figures
from evitif_lab.training.partition_begin import EarlierPartition
from evitif_lab.training.partition_body import begin_fusion, read_stages, train_body
from evitif_lab.training.partition_checks import BY_THE_MODEL, Files, check_files, check_values
from evitif_lab.training.partition_confusions import confusions_of, share_within
from evitif_lab.training.partition_retraining import Schedule, System, arrived_features, fuse, retrain
from evitif_lab.training.partition_settings import STEPS, PartitionTraining
from evitif_lab.training.partition_steps import StepResults
from evitif_lab.training.training_answers import TrainingAnswers, training_answers
from evitif_lab.trials.images import Normalise, load_images
from evitif_lab.trials.original import Original, load_original


def train_partition(configuration: PartitionTraining, command: str = '', overwrite: bool = False) -> dict:
    """Run the steps that are not done yet, write the artifact and return its `partition.json`; where one step alone was
    asked for, what that step found. A partition that is there already, by the same configuration, is left as it is.

    :param overwrite: replace a partition of another configuration
    :raises ValueError: or one of its kinds (DivergenceError among them), for a model, data, subsets or an inventory that cannot be used
    """
    c = configuration
    check_values(c)
    original = load_original(c.model, c.checkpoint, c.pretrained)
    files = check_files(c, original)
    run = _Run(c, original, files, command, overwrite)
    return run.finished() or run.run()


class _Run:
    def __init__(self, c: PartitionTraining, original: Original, files: Files, command: str, overwrite: bool):
        self.c, self.original, self.files, self.command, self.overwrite = c, original, files, command, overwrite
        self._answers: tuple[TrainingAnswers, TrainingAnswers] | None = None
        self.earlier = EarlierPartition(c.begin, original.fingerprint, c.devices) if c.begin else None
        if self.earlier:
            self.earlier.require_held_out(c.held_out, data=c.data, images=c.images, seed=c.seed)
        about = {'subsets': ['data', 'devices', 'subsets', 'redundancy', 'images', 'held_out', 'answers_precision', 'seed'],
                 'body': ['views', 'reduction', 'multiply_adds', 'inventory', 'rate', 'calibration_images', 'body', 'body_learning_rate',
                          'body_matrix_rate', 'batch_size', 'precision'],
                 'prune': ['common_blocks'],
                 'retrain': ['steps', 'learning_rate', 'matrix_rate', *([] if c.common_blocks else ['device_views'])],
                 'fuse': ['fusion_images', 'fusion_steps', 'device_views']}
        self.made_from = {'original': original.fingerprint, 'data': files.data, 'earlier': self.earlier and self.earlier.fingerprint}
        belongs_to = {step: {name: getattr(c, name) for name in names} for step, names in about.items()}
        belongs_to['subsets'] |= {'made_from': self.made_from, 'classes_of_each': files.subsets}
        belongs_to['body'] |= {'devices_of_inventory': files.as_dict()['inventory']}
        self.steps = StepResults(Path(c.output) / 'steps', belongs_to)
        self.steps.checkpoint('retrain', overwrite).load()      # one of another training is refused before the images are read

    def finished(self) -> dict | None:
        """The partition that is there already; None where one is to be made, which takes the place of another one; says so."""
        path = Path(self.c.output) / DESCRIPTION_FILE
        if not path.is_file() or self.c.step not in ('all', STEPS[-1]):
            return None
        try:
            content = read_partition(self.c.output).content
        except ArtifactError as error:      # of no use to anyone
            print(f'{path} is replaced: {error}', flush=True)
            return None
        made_by = content.get('made_by', {})
        made_by = {**made_by, 'made_from': {'original': content.get('original'), **made_by.get('made_from', {})}}
        configuration = {name: value for name, value in asdict(self.c).items() if name not in ('step', 'answers')}
        different = [] if self.overwrite else differs(made_by, configuration, self.made_from)
        if self.overwrite or different or self.c.step != 'all':
            print(f'{path} is replaced' + (f': it is of another training ({shortened("; ".join(different), 300)})' if different else ''),
                  flush=True)
            return None
        print(f'{path} is there already, made by the same configuration', flush=True)
        return content

    def run(self) -> dict:
        c = self.c
        work = {'subsets': self._subsets, 'body': self._body, 'prune': self._prune, 'retrain': self._retrain, 'fuse': self._fuse}
        results: dict[str, dict] = {}
        for step in STEPS:
            done = self.steps.load(step)
            alone = c.step == step
            if done is not None and not alone:
                results[step] = done
                print(f'{step}: done already', flush=True)
            elif c.step in ('all', step):
                results[step] = work[step](results)
                self.steps.save(step, results[step])
            else:
                raise ValueError(f'step {c.step!r} needs the result of {step!r} in {self.steps.folder}, of the same configuration: run '
                                 f'`--step {step}` first, or all')
            if alone:
                break
        return results[STEPS[-1]]['description'] if STEPS[-1] in results else results[c.step]['figures']

    def _subsets(self, results: dict) -> dict:
        c, classes = self.c, self.original.classes
        if self.earlier:
            return self.earlier.subsets
        figures = {}
        if c.subsets == 'random':
            subsets = random_subsets(classes, c.devices, c.seed)
        elif c.subsets == 'similar':
            confusions = confusions_of(self.answers, classes)
            subsets = similar_subsets(confusions, c.devices, c.seed)
            figures = {'confusions_within': round(share_within(confusions, subsets), 4),
                       'confusions_within_random': round(share_within(confusions, random_subsets(classes, c.devices, c.seed)), 4)}
        else:
            subsets = self.files.subsets
        if c.subsets in BY_THE_MODEL:
            subsets = with_redundancy(subsets, c.redundancy)
        check_subsets(subsets, classes, c.redundancy, self.original.built.labels)
        for index, subset in enumerate(subsets):
            print(f'device {index}: {", ".join(self.original.built.labels[one] for one in subset)}', flush=True)
        return {'subsets': [list(subset) for subset in subsets], 'figures': figures}

    def _body(self, results: dict) -> dict:
        """Where the sub-models are to be put, and what they are pruned from."""
        c, original = self.c, self.original
        if self.earlier:
            return self.earlier.body
        placed = self._place([tuple(subset) for subset in results['subsets']['subsets']])
        largest = max((one.size for one in placed), key=lambda size: size.parameters).shape
        devices = [{'device': one.device, 'shape': asdict(one.size.shape), 'parameters': one.size.parameters,
                    'multiply_adds': one.size.multiply_adds, 'pruned_harder': one.rounds} for one in placed]
        if not c.body:
            return {'devices': devices, 'figures': []}
        body, figures = body_of(c, original, self.answers, largest, self.files.data['train'])
        return {'devices': devices, 'shape': figures[-1]['shape'], 'weights': body.state_dict(), 'figures': figures}

    def _prune(self, results: dict) -> dict:
        c, module = self.c, self.original.module
        if self.earlier:
            return self.earlier.pruned
        subsets = [tuple(subset) for subset in results['subsets']['subsets']]
        normalise = Normalise(self.original.built.data_config)
        if 'weights' in results['body']:
            module = self._body_model(results['body'])
        common = common_part(c, self.answers, normalise)
        devices, weights = [], []
        for index, (subset, entry) in enumerate(zip(subsets, results['body']['devices'], strict=True)):
            shape = Shape(**entry['shape'])
            print(f'device {index} ({entry["device"]}): {entry["parameters"]:,} parameters, {entry["multiply_adds"]:,} multiply-adds, '
                  f'{shape}', flush=True)
            images = normalise(self.answers.images[calibration(self.answers, subset, index, c)])
            pruned, steps = prune(module, images, subset, shape, c.seed, lambda text: print(f'  {text}', flush=True), common)
            devices.append({**entry, 'pruning': steps})
            weights.append(pruned.state_dict())
        return {'devices': devices, 'weights': weights, 'figures': {'devices': devices}}

    def _retrain(self, results: dict) -> dict:
        c = self.c
        system = self._system(results, results['prune']['weights'], c.training_views)
        if 'weights' in results['body']:
            begin_fusion(system.fusion, self._body_model(results['body']), [shape_of(module).width for module in system.modules_])
        if 'fusion' in results['prune']:
            system.fusion.load_state_dict(results['prune']['fusion'])
        torch.manual_seed(c.seed)
        checkpoint = self.steps.checkpoint('retrain', self.overwrite)
        trained, figures = retrain(system, self.answers, self.original.built.data_config, c.schedule, c.seed, c.device, c.precision,
                                   checkpoint)
        checkpoint.remove()
        print(f'retrained: {figures}', flush=True)
        return {'weights': [module.state_dict() for module in trained.modules_], 'fusion': trained.fusion.state_dict(),
                'figures': figures}

    def _fuse(self, results: dict) -> dict:
        c, built = self.c, self.original.built
        views = c.own_views
        system = self._system(results, results['retrain']['weights'], views)
        system.fusion.load_state_dict(results['retrain']['fusion'])
        for module in system.modules_:
            module.half().float()                # as they are stored
        network, figures = fuse(system, self.fusion_answers, built.data_config, c.fusion_images, c.fusion_steps, c.seed, c.device,
                                judged=c.held_out > 0)
        network.half().float()
        images, ids = test_images(c, self.original)
        arrived = arrived_features(system, images, Normalise(built.data_config, c.device), c.device)
        with torch.inference_mode():
            fused = network(arrived, torch.ones(arrived.shape[:2], dtype=torch.bool)).argmax(1)
        top1 = float((fused == ids).float().mean())
        split = judging_split(c.data)
        print(f'the whole system: {accuracy_words(split)} {100 * top1:.2f} % on {len(images)} images', flush=True)
        pruned = results['prune']['devices']
        original = parameters_of(self.original.module)
        description = save_partition(c.output, list(system.modules_), network, {
            'original': self.original.fingerprint, 'model': built.name, **self._architecture(),
            'class_names': list(built.class_names), 'labels': list(built.labels),
            'data_config': plain(built.data_config), 'features': system.channels,
            'redundancy': self.earlier.redundancy if self.earlier else c.redundancy,
            'devices': [{'name': entry['device'], 'classes': results['subsets']['subsets'][index], 'shape': entry['shape'],
                         'parameters': entry['parameters'], 'multiply_adds': entry['multiply_adds'],
                         'pruned_harder': entry['pruned_harder'], 'pruning': entry['pruning'],
                         **({'view': asdict(views[index])} if c.device_views else {})}
                        for index, entry in enumerate(pruned)],
            'figures': {**judged_figures(split, top1, len(images)), 'parameters_original': original,
                        'reduction': round(original / max(entry['parameters'] for entry in pruned), 2),
                        'subsets': results['subsets']['figures'], 'body': results['body']['figures'],
                        'retraining': results['retrain']['figures'], 'fusion': figures},
            'made_by': {'command': self.command, **({'after': self.earlier.commands} if self.earlier else {}), 'configuration': asdict(c),
                        'made_from': self.made_from, 'torch': torch.__version__}})
        return {'description': description, 'figures': description['figures']}

    @property
    def answers(self) -> TrainingAnswers:
        """Of the original on what the sub-models learn from; read or computed when first asked for."""
        return self._both_answers()[0]

    @property
    def fusion_answers(self) -> TrainingAnswers:
        """The same on what the fusion learns from."""
        return self._both_answers()[1]

    def _both_answers(self) -> tuple[TrainingAnswers, TrainingAnswers]:
        if self._answers is None:
            self._answers = answers_of(self.c, self.original, self.files.data['train'])
        return self._answers

    def _place(self, subsets: list[tuple[int, ...]]) -> tuple[Placed, ...]:
        c, module = self.c, self.original.module
        limit = c.limit(self.original)
        sizes: dict[tuple[Limit, int], Size] = {}

        def within(index: int, limit: Limit) -> Size:
            key = (limit, len(subsets[index]) + 1)
            if key not in sizes:
                sizes[key] = size_within(module, *key)
            return sizes[key]
        limits = [limit] * len(subsets)
        if c.inventory is None:
            return tuple(Placed(within(index, limit), f'device{index}', limit, 0) for index in range(len(subsets)))
        return place(limits, within, self.files.inventory, c.rate)

    def _body_model(self, result: dict) -> nn.Module:
        module = blank(copy.deepcopy(self.original.module), Shape(**result['shape']), self.original.classes)
        module.load_state_dict(result['weights'])
        return module.eval().requires_grad_(False)

    def _system(self, results: dict, weights: list[dict], views: tuple[View, ...] = ()) -> System:
        subsets = tuple(tuple(subset) for subset in results['subsets']['subsets'])
        modules = []
        for subset, entry, state in zip(subsets, results['prune']['devices'], weights, strict=True):
            module = blank(copy.deepcopy(self.original.module), Shape(**entry['shape']), len(subset) + 1)
            module.load_state_dict(state)
            modules.append(module.requires_grad_(True))
        torch.manual_seed(self.c.seed)
        return System(modules, subsets, self.original.classes, shape_of(self.original.module).width, self.c.common_blocks,
                      views)

    def _architecture(self) -> dict:
        description = self.original.built.description
        if description:
            return {'architecture': description['architecture'], 'model_kwargs': description['model_kwargs']}
        return {'architecture': self.c.model, 'model_kwargs': {}}


def answers_of(c: PartitionTraining, original: Original, data: dict) -> tuple[TrainingAnswers, TrainingAnswers]:
    """The original's on the training images and their views, read, or computed and kept: for the sub-models, and for the fusion, the
    same where nothing is held out.

    :param data: `identity_of` the training images
    """
    built = original.built
    identity = json.dumps([original.fingerprint, data])
    answers = training_answers(built.module, identity, built.data_config, built.class_names, c.data, c.images, c.shared, c.seed, c.device,
                               c.answers_precision, c.views)
    return answers.divided(c.held_out) if c.held_out else (answers, answers)


def body_of(c: PartitionTraining, original: Original, answers: TrainingAnswers, largest: Shape,
            data: dict) -> tuple[nn.Module, list[dict]]:
    """What the sub-models are pruned from, whose largest has that shape, and what is known of each stage; see `train_body`."""
    identity = json.dumps([original.fingerprint, data, c.images, c.held_out, c.answers_precision, c.views])
    schedule = Schedule(0, c.batch_size, c.body_learning_rate, c.body_matrix_rate)
    return train_body(original.module, identity, original.built.data_config, answers, largest, read_stages(c.body), schedule,
                      answers.images[:2 * c.calibration_images], test_images(c, original), c.shared, c.seed, c.device, c.precision)


def common_part(c: PartitionTraining, answers: TrainingAnswers, normalise: Normalise) -> tuple[int, torch.Tensor] | None:
    """`prune`'s argument `common`."""
    return (c.common_blocks, normalise(answers.images[:2 * c.calibration_images])) if c.common_blocks else None


def test_images(c: PartitionTraining, original: Original) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [n, C, H, W] and class ids [n], for figures alone."""
    config = original.built.data_config
    return load_images(open_images(c.data, 'test', class_names=original.built.class_names), config,
                       'test images')


def calibration(answers: TrainingAnswers, subset: tuple[int, ...], device: int, c: PartitionTraining) -> torch.Tensor:
    """Which training images a device is pruned by, int64: half of its classes, half of the others, where there are both."""
    own = torch.isin(answers.class_ids, torch.tensor(subset))
    generator = torch.Generator().manual_seed(c.seed * 1009 + device)
    mine, others = (which[torch.randperm(len(which), generator=generator)] for which in (own.nonzero()[:, 0], (~own).nonzero()[:, 0]))
    others = others[:c.calibration_images // 2]
    return torch.cat((mine[:c.calibration_images - len(others)], others))
