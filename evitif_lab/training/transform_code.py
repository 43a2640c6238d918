"""Fit the transform code of a model's tokens at given cuts (`evitif.model.transform_code`). No labels are used: the metric
comes from the tail's own answers. It takes a minute or two, since all but the gradients has a closed form."""

from __future__ import annotations

import heapq
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from evitif.files import not_finite, require_finite, write_json
from evitif.heads import read_head
from evitif.model.code_artifact import KIND, half_precision, load_code, save_code
from evitif.model.errors import ArtifactError
from evitif.model.folder import artifact_path
from evitif.model.model_identity import view_of
from evitif.model.quantise import TokenQuantiser, row_bytes
from evitif.model.split import SplitModel
from evitif.model.tensors import require_finite_answers
from evitif.model.transform_code import MAX_DEPTH, RATES, Basis, TransformCode, code_row_bytes
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.rate_table import FIGURES
from evitif.selection.large import PatchModel
from evitif.selection.patch_code import KIND as PIXELS
from evitif.selection.patch_code import Pixels
from evitif.settings import SplitSettings
from evitif_lab.commands.configuration import LIMITS_HELP, VIEWS_HELP, CutChoice, option
from evitif_lab.commands.options import positive_int, seed
from evitif_lab.commands.progress import Progress
from evitif_lab.data.identity import digest_of as data_digest
from evitif_lab.differences import differences
from evitif_lab.plain import plain
from evitif_lab.training.finished import artifact_folder, is_finished
from evitif_lab.training.rate_measurement import IMAGES, measure_rates, recovery_in
from evitif_lab.trials.headed import divergence, drawn_log_probability, with_head
from evitif_lab.trials.images import Normalise, load_views, open_sources

BATCH = 50
PLAIN = ('int8', 'int4')        # that a frame may travel in as well where little is lost
TOKEN_RATES = tuple(kind for kind, bits in RATES.items() if bits >= 0.5)      # below, patches of pixels are of use, tokens are not
DIVERGENCE = 0.01        # nats that the coarsest rate that is taken by default may cost
_SAMPLE = 200_000       # coefficients that the levels are chosen on


@dataclass(frozen=True, kw_only=True)
class CodeTraining(CutChoice):
    """The configuration of one fit; printed at its start and saved with its result."""

    data: list[str] = option(help='fashion-mnist, moving-fashion, folders of images, or bags', nargs='+')
    pixels: bool = option(False, 'code the patches of an image as strategy selection sends them, instead of tokens at a cut')
    output: str | None = option(None, "folder of the artifacts (default: the model folder, or the head's)")
    head: str | None = option(None, "the folder of a head, whose answers are to be kept rather than those of the model's own classifier; "
                              'edge and bridge get the result by code_folder', metavar='FOLDER')
    images: int = option(2000, 'for means and covariances, drawn from all of --data', positive_int)
    gradient_images: int = option(512, 'of these, for the metric (Fisher information)', positive_int)
    video: list[str] | None = option(None, 'bags, or folders of frames that follow one another, for the code of differences between '
                                     'frames (default: the bags of --data, else simulated camera motion over its images)',
                                     nargs='+', metavar='SOURCE')
    views: list[int] | None = option(None, VIEWS_HELP, positive_int, nargs='+', metavar='N')
    limits: list[int] | None = option(None, LIMITS_HELP, positive_int, nargs='+', metavar='N')
    seed: int = option(0, None, seed)


def train_code(configuration: CodeTraining, command: str = '', keep: bool = False, table: bool = True,
               overwrite: bool = False) -> list[dict]:
    """Fit a code for every cut, write `klt-cut<k>.json` with its arrays, and return the descriptions.

    A code that is there already, by the same configuration, is not fitted again; with `keep` nor is one of another configuration, and
    neither is returned. Without `table` what the rates cost is left for `measure_again`, after a recovery was trained. With
    `overwrite` all are fitted anew.

    :raises ValueError: or one of its kinds, for a model or data that cannot be used
    :raises MemoryError: the images do not fit into memory
    """
    c = configuration
    if c.pixels and c.cut:
        raise ValueError(f'cut is {c.cut}, but pixels are coded before the embedding: expected one of the two')
    if c.pixels and (c.image_size or c.fit):
        raise ValueError('image_size or fit is given, but pixels are coded at the size of the model itself: that code serves others too')
    if c.pixels and c.head:
        raise ValueError(f'head is {c.head!r}, but pixels are sent by strategy selection, which has no heads: expected one of the two')
    folder, kind = artifact_folder(c.model, c.output or c.head), PIXELS if c.pixels else KIND
    streams = {stream.parameters.cut: stream for stream in (stream_of(c, cut) for cut in c.cut or [0 if c.pixels else None])}
    made_from = made_from_of(c)
    paths = {cut: artifact_path(folder, cut, kind, stream.identity.suffix) for cut, stream in streams.items()}
    open_cuts = [cut for cut, stream in streams.items() if not _is_there(c, paths[cut], stream, kind, keep, made_from, overwrite)]
    images, descriptions = None, []
    for cut in open_cuts:
        began, stream, path = time.monotonic(), streams[cut], paths[cut]
        split = PatchModel(stream.split) if c.pixels else stream.split
        images = images_of(c, stream) if images is None else images
        tokens, answers = tokens_of(split, images, Normalise(stream.preprocessor.data_config, c.device))
        fisher = fisher_information(split, tokens[:c.gradient_images], c.seed)
        code = half_precision(fit_code(tokens, split.prefix_tokens, fisher))
        if not_finite(code.arrays()) is not None:
            raise ValueError(f'a code cannot be fitted to {len(images)} images that differ so little: expected more, and different ones')
        kinds = (*(RATES if c.pixels else TOKEN_RATES), *PLAIN)
        parameters, figures = stream.parameters, _figures(split, code, tokens, answers, kinds)
        if table and not c.pixels:
            recovery = recovery_in(folder, stream, c.model if c.head else '')
            figures[FIGURES] = measure_rates(stream, code, *recovery, tokens[-IMAGES:], answers[-IMAGES:], kinds, c.seed)
        about = Pixels.describe(split, stream.class_names, stream.labels, stream.preprocessor.data_config) if c.pixels else {}
        descriptions.append(save_code(path, code, {
            'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': parameters.cut,
            **view_of(stream.preprocessor.data_config), **about,
            'data': c.data, 'images': len(images), 'seed': c.seed,
            'default': default_rate(figures), 'figures': {**figures, 'seconds': round(time.monotonic() - began, 1)},
            'made_by': {'command': command, 'configuration': configuration_of(c, parameters.cut), 'made_from': made_from,
                        'torch': torch.__version__}}, kind))
    return descriptions


def measure_again(configuration: CodeTraining, command: str = '', keep: bool = False) -> list[dict]:
    """Measure anew, with the recovery that lies beside them, what the rates of the codes that are there cost; return the descriptions.

    With `keep`, tables that were measured with this recovery already are left as they are, and not returned.

    :raises ValueError: or one of its kinds, as `train_code`; ArtifactError where a cut has no code of these weights
    """
    c = configuration
    folder, images, descriptions = artifact_folder(c.model, c.output or c.head), None, []
    streams = {stream.parameters.cut: stream for stream in (stream_of(c, cut) for cut in c.cut or [None])}
    open_sources(c.data, c.views, c.limits)
    paths = {cut: artifact_path(folder, cut, KIND, stream.identity.suffix) for cut, stream in streams.items()}
    codes = {cut: load_code(paths[cut], stream.parameters.fingerprint) for cut, stream in streams.items()}
    for cut, stream in streams.items():
        path, (code, description) = paths[cut], codes[cut]
        recovery, digest = recovery_in(folder, stream, c.model if c.head else '')
        figures = description.setdefault('figures', {})
        if keep and figures.get(FIGURES, {}).get('recovery_digest') == digest:
            continue
        images = images_of(c, stream) if images is None else images
        tokens, answers = tokens_of(stream.split, images, Normalise(stream.preprocessor.data_config, c.device))
        table = measure_rates(stream, code, recovery, digest, tokens, answers, (*TOKEN_RATES, *PLAIN), c.seed)
        if earlier := figures.get(FIGURES):
            before, now = ({name: one.get(name) for name in ('recovery', 'recovery_digest', 'images')} for one in (earlier, table))
            different = differences(before, now)
            print(f'{path}: its table is replaced ({"; ".join(different) or "measured with the same recovery"})', flush=True)
        figures[FIGURES] = {**table, 'command': command}
        write_json(path, description)
        descriptions.append(description)
    return descriptions


def stream_of(c: CodeTraining, cut: int | None) -> CutModel:
    """The model at this cut, or at its own."""
    stream = CutModel.load(SplitSettings(model=c.model, checkpoint=c.checkpoint, pretrained=c.pretrained, cut=cut,
                                          quantisation='fp16', device=c.device, heads=c.head or '', **c.view))
    stream.split.module.requires_grad_(False)
    return stream if c.head is None else with_head(stream, c.head, places=True)


def made_from_of(c: CodeTraining) -> dict:
    """What else than the configuration a code depends on."""
    data = [data_digest(dataset) for dataset in open_sources(c.data, c.views, c.limits)]
    return {'data': data, **({} if c.head is None else {'head': read_head(c.head).identity[1]})}


def images_of(c: CodeTraining, stream: CutModel) -> torch.Tensor:
    """The training images uint8 [n, 3, H, W], in an order that the seed says."""
    images = load_views(c.data, stream.preprocessor.data_config, c.views, c.limits, c.seed)
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(c.seed))[:c.images]]


def configuration_of(c: CodeTraining, cut: int) -> dict:
    """As it is saved with the result for this cut."""
    return plain({**asdict(c), 'cut': cut})


def _is_there(c: CodeTraining, path: Path, stream: CutModel, kind: str, keep: bool, made_from: dict, overwrite: bool) -> bool:
    """Whether a code of these weights need not be fitted. Raises ValueError for one that would be replaced."""
    if not path.is_file():
        return False
    try:
        _, description = load_code(path, stream.parameters.fingerprint, kind)
    except ArtifactError as error:      # of no use to anyone
        print(f'{path} is replaced: {error}', flush=True)
        return False
    return keep or is_finished(path, description.get('made_by', {}), configuration_of(c, stream.parameters.cut), made_from, overwrite)


@torch.inference_mode()
def tokens_of(split: SplitModel | PatchModel, images: torch.Tensor, normalise: Normalise) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens float32 [n, N, D] and the tail's logits [n, classes], of a head for places [n, classes, rows, columns], on the CPU."""
    parts = []
    for part in Progress(images.split(BATCH), desc=f'tokens at cut {split.cut}', unit='batch'):
        tokens = split.head(normalise(part.to(normalise.mean.device)))
        logits = split.tail(tokens)
        require_finite_answers(f'the model at cut {split.cut}', tokens=tokens, logits=logits)
        parts.append((tokens.float().cpu(), logits.float().cpu()))
    tokens, logits = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(logits)


def fisher_information(split: SplitModel | PatchModel, tokens: torch.Tensor, seed: int) -> torch.Tensor:
    """How much the tail's answer depends on each direction of a token: float64 [prefix tokens + 1, D, D].

    The mean outer product of the gradient of the log-probability of a class, drawn from the tail's own answer (Amari,
    "Natural gradient works efficiently in learning", 1998), for each prefix token and, averaged, for the patches.
    """
    return information(split, tokens, seed)[0]


def information(split: SplitModel | PatchModel, tokens: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The Fisher information within a token, as `fisher_information`, and between patches, float64 [patches, patches]: the mean product
    of their gradients, channels in units of their spread."""
    device = next(split.module.parameters()).device
    prefix, channels = split.prefix_tokens, tokens.shape[2]
    total = torch.zeros(prefix + 1, channels, channels, dtype=torch.float64)
    between = torch.zeros(tokens.shape[1] - prefix, tokens.shape[1] - prefix, dtype=torch.float64)
    spread = tokens[:, prefix:].flatten(0, 1).std(0)
    generator = torch.Generator().manual_seed(seed)
    for part in Progress(tokens.split(BATCH), desc=f'gradients at cut {split.cut}', unit='batch'):
        leaf = part.clone().to(device).requires_grad_(True)     # a clone: inference tensors take no gradient
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(drawn_log_probability(split.tail(leaf), generator), leaf)
        scaled = gradient[:, prefix:].float().cpu() * spread
        between += torch.einsum('bnd,bmd->nm', scaled, scaled)
        gradient = gradient.double().cpu()
        for place in range(prefix):
            total[place] += gradient[:, place].T @ gradient[:, place]
        patches = gradient[:, prefix:].reshape(-1, channels)
        total[prefix] += patches.T @ patches / (tokens.shape[1] - prefix)
    return total / len(tokens), between / len(tokens)


def fit_code(tokens: torch.Tensor, prefix_tokens: int, fisher: torch.Tensor, ridge: float = 0.1) -> TransformCode:
    """The code for tokens [n, N, D] whose tail has the Fisher information [prefix tokens + 1, D, D] (`fisher_information`)."""
    require_finite({'tokens': tokens, 'fisher': fisher}, 'a code cannot be fitted')
    mean = tokens.mean(0)
    centred = (tokens - mean).double()
    if not float(centred.abs().max()):
        raise ValueError(f'a code cannot be fitted to {len(tokens)} images that are all the same: expected some different ones')
    scale = centred.square().mean((0, 1)).sqrt().clamp(min=1e-6)
    parts = [centred[:, place] for place in range(prefix_tokens)] + [centred[:, prefix_tokens:].flatten(0, 1)]
    transforms = [_transform(part, information, scale, ridge) for part, information in zip(parts, fisher, strict=True)]
    levels, errors = _levels(transforms[-1][0], parts[-1])
    bits = 8 * code_row_bytes(max(RATES, key=RATES.get), tokens.shape[2])
    bases = []
    for analysis, synthesis, variances in transforms:
        order = _bit_order(variances.tolist(), errors, bits)
        kept = 1 + int(order.max())             # coefficients are sorted by variance, so those without a bit are last
        bases.append(Basis(analysis[:, :kept].float().numpy(), synthesis[:kept].float().numpy(), order))
    return TransformCode(mean.float().numpy(), bases, levels)


def _transform(values: torch.Tensor, fisher: torch.Tensor, scale: torch.Tensor,
               ridge: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Analysis [D, D] to coefficients of variance 1, synthesis [D, D], and their variances [D] in the metric, descending."""
    # In units of each channel's spread, so that the ridge means the same for all of them.
    metric = scale[:, None] * fisher * scale
    metric = metric / metric.diagonal().mean().clamp(min=1e-30) + ridge * torch.eye(len(scale), dtype=torch.float64)
    weights, directions = torch.linalg.eigh(metric)
    root = (directions * weights.sqrt()) @ directions.T / scale[:, None]
    covariance = values.T @ values / len(values)
    variances, basis = torch.linalg.eigh(root.T @ covariance @ root)
    variances, basis = variances.flip(0).clamp(min=max(1e-9, 1e-7 * float(variances[-1]))), basis.flip(1)
    forward = root @ basis
    spread = variances.sqrt()
    return forward / spread, torch.linalg.inv(forward) * spread[:, None], variances


def _levels(analysis: torch.Tensor, values: torch.Tensor) -> tuple[list[np.ndarray], list[float]]:
    """Lloyd's levels for 1 to 6 bits, and the squared error of a coefficient with 0 to 6 bits, its variance being 1."""
    first = analysis[:, :max(8, analysis.shape[1] // 4)]        # those that get most of the bits
    step = max(1, len(values) * first.shape[1] // _SAMPLE)
    sample = (values[::step] @ first).flatten().numpy()
    sample = np.sort(sample / sample.std())
    total = np.concatenate(([0.0], np.cumsum(sample)))
    levels, errors = [], [1.0]
    for depth in range(1, MAX_DEPTH + 1):
        chosen = np.quantile(sample, (np.arange(2**depth) + 0.5) / 2**depth)
        for _ in range(100):
            edges = np.concatenate(([0], np.searchsorted(sample, (chosen[1:] + chosen[:-1]) / 2), [len(sample)]))
            counts = np.diff(edges)
            chosen = np.where(counts > 0, np.diff(total[edges]) / np.maximum(counts, 1), chosen)
        quantised = chosen[np.searchsorted((chosen[1:] + chosen[:-1]) / 2, sample)]
        levels.append(chosen.astype(np.float32))
        errors.append(min(float(np.square(sample - quantised).mean()), errors[-1] * 0.999))
    return levels, errors


def _bit_order(variances: list[float], errors: list[float], bits: int) -> np.ndarray:
    """The coefficient that each next bit goes to: the one whose error it takes most from. int16 [bits], or fewer where all
    coefficients have their greatest depth."""
    gains = [(variance * (errors[1] - errors[0]), index, 0) for index, variance in enumerate(variances)]
    heapq.heapify(gains)
    order = []
    while gains and len(order) < bits:
        _, index, depth = heapq.heappop(gains)
        order.append(index)
        if depth + 1 < MAX_DEPTH:
            heapq.heappush(gains, (variances[index] * (errors[depth + 2] - errors[depth + 1]), index, depth + 1))
    return np.array(order, np.int16)


def default_rate(figures: dict) -> str:
    """The coarsest rate whose divergence is at most DIVERGENCE, the finest where none's is."""
    by_rate = sorted((kind for kind in RATES if kind in figures), key=RATES.get)
    return next((kind for kind in by_rate if figures[kind]['training_divergence'] <= DIVERGENCE), by_rate[-1])


@torch.inference_mode()
def _figures(split: SplitModel | PatchModel, code: TransformCode, tokens: torch.Tensor, answers: torch.Tensor,
             kinds: tuple[str, ...]) -> dict:
    """On the last of the training tokens: of each quantisation the bytes of a token, how often the answer's class stays, and
    the divergence of the answer in nats."""
    tokens, answers = tokens[-500:], answers[-500:]
    device = next(split.module.parameters()).device
    figures = {}
    for kind in kinds:
        if (size := row_bytes(kind, code.channels)) is None:
            continue
        quantiser = TokenQuantiser(kind, code.channels, code=code if kind in RATES else None)
        arrived = torch.from_numpy(quantiser.dequantise(quantiser.quantise(tokens.flatten(0, 1).numpy()))).view(tokens.shape)
        logits = torch.cat([split.tail(part.to(device)).float().cpu() for part in arrived.split(BATCH)])
        figures[kind] = {'token_bytes': size,
                         'training_agreement': round(float((logits.argmax(1) == answers.argmax(1)).float().mean()), 4),
                         'training_divergence': round(float(divergence(logits, answers)), 5)}
    return figures
