"""`evitif train code`, its second half: the entropy codes of a model's tokens at given cuts, from images and simulated camera motion."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from evitif.datasets import open_images, recorded_paths
from evitif.model.entropy_artifact import KIND, half_precision, load_entropy_code, save_entropy_code
from evitif.model.errors import ArtifactError
from evitif.model.folder import artifact_path
from evitif.model.model_identity import view_of
from evitif.model.split import SplitModel
from evitif.pipeline.coded_table import FIGURES
from evitif.recording import is_recording
from evitif.selection import PatchModel, Pixels
from evitif.selection.patch_code import ENTROPY_KIND
from evitif_lab.commands.progress import Progress
from evitif_lab.training.entropy_code import fit_entropy_code
from evitif_lab.training.finished import artifact_folder, is_finished
from evitif_lab.training.rate_measurement import recovery_in
from evitif_lab.training.sensitivity import IMAGES, fit_sensitivity
from evitif_lab.training.step_measurement import measure_steps
from evitif_lab.training.transform_code import (
    BATCH,
    CodeTraining,
    configuration_of,
    images_of,
    information,
    made_from_of,
    stream_of,
    tokens_of,
)
from evitif_lab.trials.camera_motion import camera_path
from evitif_lab.trials.images import Normalise, Seen, load_images

PATHS, FRAMES = 160, 4          # of simulated camera motion
MEASURED, MEASURED_PIXELS, FILMED = 400, 150, 80       # images and paths that the edge's choice rests on; patches of pixels take longer


def train_entropy_code(configuration: CodeTraining, command: str = '', keep: bool = False, overwrite: bool = False) -> list[dict]:
    """Fit an entropy code for every cut, or of pixels, write it as `entropy-cut<k>.json` or `pixels-entropy-cut0.json` with its arrays, and
    return the descriptions.

    What is there already is treated as by `train_code`, and the same is raised.
    """
    c = configuration
    folder, descriptions, images = artifact_folder(c.model, c.output or c.head), [], None
    kind = ENTROPY_KIND if c.pixels else KIND
    made_from = made_from_of(c)
    for cut in c.cut or [0 if c.pixels else None]:
        began, stream = time.monotonic(), stream_of(c, cut)
        path, parameters = artifact_path(folder, stream.parameters.cut, kind, stream.identity.suffix), stream.parameters
        if _is_there(c, path, kind, parameters.cut, parameters.fingerprint, keep, made_from, overwrite):
            continue
        split, about, kept = stream.split, {}, None
        if c.pixels:        # the model sees no more directions of a patch than its embedding has channels
            split, kept = PatchModel(stream.split), stream.split.channels
            about = Pixels.describe(split, stream.class_names, stream.labels, stream.preprocessor.data_config)
        images = images_of(c, stream) if images is None else images
        normalise = Normalise(stream.preprocessor.data_config, c.device)
        tokens, answers = tokens_of(split, images, normalise)
        found = information(split, tokens[:c.gradient_images], c.seed)
        video = filmed(split, c, images[-PATHS:], stream.preprocessor.data_config, normalise)
        code = half_precision(fit_entropy_code(tokens, split.prefix_tokens, split.grid, *found, video, seed=c.seed, kept=kept))
        code = code.with_sensitivity(fit_sensitivity(split, code, tokens[:c.gradient_images], c.seed))
        measured = slice(-(MEASURED_PIXELS if c.pixels else MEASURED), None)
        table = measure_steps(stream, code, *recovery_in(folder, stream, c.model if c.head else ''), tokens[measured], answers[measured],
                              None if c.pixels else video[:FILMED], c.seed, split if isinstance(split, PatchModel) else None)
        descriptions.append(save_entropy_code(path, code, {
            'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': parameters.cut, **about, 'data': c.data,
            **view_of(stream.preprocessor.data_config),
            'images': len(images), 'seed': c.seed, 'figures': {FIGURES: table, 'seconds': round(time.monotonic() - began, 1)},
            'made_by': {'command': command, 'configuration': configuration_of(c, parameters.cut), 'made_from': made_from,
                        'torch': torch.__version__}}, kind))
    return descriptions


def measure_steps_again(configuration: CodeTraining, keep: bool = False) -> list[dict]:
    """Measure anew, with the recovery that lies beside them, what the steps of the codes that are there cost; return the descriptions.
    A code of before there was a sensitivity gets one: how it is decoded does not change.

    With `keep`, tables that were measured with this recovery already are left as they are, and not returned.
    """
    c, descriptions = configuration, []
    folder = artifact_folder(c.model, c.output or c.head)
    for cut in c.cut or [None]:
        stream = stream_of(c, cut)
        path = artifact_path(folder, stream.parameters.cut, KIND, stream.identity.suffix)
        code, description = load_entropy_code(path, stream.parameters.fingerprint)
        recovery, digest = recovery_in(folder, stream, c.model if c.head else '')
        figures = description.setdefault('figures', {})
        before = figures.get(FIGURES, {})
        if keep and before.get('recovery_digest') == digest and 'remembered' in before:
            continue
        images, normalise = images_of(c, stream), Normalise(stream.preprocessor.data_config, c.device)
        measured = images[-MEASURED:]
        tokens, answers = tokens_of(stream.split, measured, normalise)
        if code.sensitivity is None:
            others = images[:min(IMAGES, c.gradient_images)]
            code = code.with_sensitivity(fit_sensitivity(stream.split, code, tokens_of(stream.split, others, normalise)[0], c.seed))
        video = filmed(stream.split, c, images[-FILMED:], stream.preprocessor.data_config, normalise)
        figures[FIGURES] = measure_steps(stream, code, recovery, digest, tokens, answers, video, c.seed, before=before)
        descriptions.append(save_entropy_code(path, code, description))
    return descriptions


def _is_there(c: CodeTraining, path: Path, kind: str, cut: int, fingerprint: str, keep: bool, made_from: dict, overwrite: bool) -> bool:
    if not path.is_file():
        return False
    try:
        _, description = load_entropy_code(path, fingerprint, kind)
    except ArtifactError as error:      # of no use to anyone
        print(f'{path} is replaced: {error}', flush=True)
        return False
    return keep or is_finished(path, description.get('made_by', {}), configuration_of(c, cut), made_from, overwrite)


def filmed(split: SplitModel | PatchModel, c: CodeTraining, images: torch.Tensor, seen: Seen, normalise: Normalise) -> torch.Tensor:
    """Tokens float16 [paths, frames, N, D]: of what was recorded, else of a camera that moves over `images`."""
    recorded = c.video or [source for source in c.data if is_recording(source)]
    return recorded_tokens(split, recorded, seen, normalise) if recorded else video_tokens(split, images, normalise, c.seed)


@torch.inference_mode()
def video_tokens(split: SplitModel | PatchModel, images: torch.Tensor, normalise: Normalise, seed: int) -> torch.Tensor:
    """Tokens float16 [paths, frames, N, D] of a camera that moves over each image."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for part in Progress(images.split(max(1, BATCH // FRAMES)), desc=f'simulated motion at cut {split.cut}', unit='batch'):
        frames = camera_path(part, FRAMES, generator)
        parts.append(split.head(normalise(frames.flatten(0, 1).to(normalise.mean.device))).half().cpu().unflatten(0, frames.shape[:2]))
    return torch.cat(parts)


@torch.inference_mode()
def recorded_tokens(split: SplitModel | PatchModel, folders: list[str], data_config: dict, normalise: Normalise) -> torch.Tensor:
    """As `video_tokens`, of frames that were recorded: paths spread evenly over each folder of images, or the part of a bag that trains.

    :raises ValueError: a folder or bag has fewer frames than a path
    """
    parts, seen = [], Seen(data_config)
    for folder in folders:
        if is_recording(folder):
            for run in recorded_paths(folder, PATHS // len(folders), FRAMES):
                frames = torch.stack([torch.from_numpy(seen(image)).permute(2, 0, 1) for image in run])
                parts.append(split.head(normalise(frames.to(normalise.mean.device))).half().cpu()[None])
            continue
        frames, _ = load_images(open_images(folder), data_config, title=folder)
        if len(frames) < FRAMES:
            raise ValueError(f'{folder} has {len(frames)} images: expected at least {FRAMES} frames that follow one another')
        firsts = np.unique(np.linspace(0, len(frames) - FRAMES, PATHS // len(folders)).astype(int))
        found = torch.cat([split.head(normalise(part.to(normalise.mean.device))).half().cpu() for part in frames.split(BATCH)])
        parts.append(found[torch.from_numpy(firsts)[:, None] + torch.arange(FRAMES)])
    return torch.cat(parts)
