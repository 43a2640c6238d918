"""Measure what each quantisation of a model's tokens costs and what lost patches cost with the recovery that there is: the table
by which a robot chooses how its frames travel (`evitif.pipeline.rate_table`). No labels are used.

The unit is accuracy. Where the exact tokens are answered with the probabilities p and the class a, and what arrived with the class
b, p(a) - p(b) is what that changed answer costs, if p is to be believed: nothing for a tie that goes the other way, much for an
answer that was sure. Divergence, which was taken before, counts a hundred answers that moved a little for as bad as one that was
turned round, and takes tokens for too good that are coded coarsely (docs/notes/2026-11-29-recovery.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from evitif.model.errors import ArtifactError
from evitif.model.folder import artifact_folders, artifact_path
from evitif.model.quantise import TokenQuantiser, row_bytes
from evitif.model.transform_code import RATES, TransformCode
from evitif.pipeline.cut_model import CutModel
from evitif.recovery import Omission, Recovery, load_recovery
from evitif_lab.commands.progress import Progress
from evitif_lab.trials.headed import cost

BATCH = 50
IMAGES = 1000           # that are enough to choose by; the shipped tables were measured on more
SHARES_LOST = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)     # of the patches


def recovery_in(folder: Path, stream: CutModel, model: str = '') -> tuple[Recovery, str]:
    """The PALDN in `folder`, else that of `model`, for the model and cut of `stream` with a hash of its weights; omission and '' where none
    fits."""
    paths = [artifact_path(each, stream.parameters.cut, 'paldn', suffix) for each in (folder, *(artifact_folders(model) if model else ()))
             for suffix in (stream.identity.suffix, '')]
    path = next((path for path in paths if path.is_file()), paths[0])
    try:
        network, _ = load_recovery(path, stream.identity, stream.split)
    except ArtifactError:
        return Omission(stream.blank_tokens, stream.parameters.prefix_tokens, stream.parameters.grid), ''
    return network.to(stream.placement.device), hashlib.sha256(path.with_suffix('.safetensors').read_bytes()).hexdigest()[:16]


@torch.inference_mode()
def measure_rates(stream: CutModel, code: TransformCode, recovery: Recovery, digest: str, tokens: torch.Tensor, answers: torch.Tensor,
                  kinds: tuple[str, ...], seed: int = 0) -> dict:
    """:param tokens: exact ones of training images, [n, N, D]
    :param answers: the tail's logits on these, [n, classes]
    :param kinds: quantisations; those that have no row of these channels are left out
    :returns: `coding`, `lost`, and with what they were measured, for the description of the code
    """
    probabilities, coding = answers.softmax(1), {}
    kinds = tuple(kind for kind in kinds if row_bytes(kind, code.channels) is not None)
    with Progress(total=len(kinds) + len(SHARES_LOST), desc=f'cost of coding and loss at cut {stream.split.cut}', unit='row') as bar:
        for kind in kinds:
            quantiser = TokenQuantiser(kind, code.channels, code=code if kind in RATES else None)
            arrived = torch.from_numpy(quantiser.dequantise(quantiser.quantise(tokens.flatten(0, 1).numpy()))).view(tokens.shape)
            coding[kind] = coding_cost(stream, probabilities, arrived)
            bar.update()
        lost = lost_costs(stream, recovery, tokens, probabilities, seed, bar)
    return {'recovery': recovery.name, 'recovery_digest': digest, 'images': len(tokens), 'coding': coding, 'lost': lost}


def coding_cost(stream: CutModel, probabilities: torch.Tensor, arrived: torch.Tensor) -> float:
    """What tokens [n, N, D] cost as they arrived, where the exact ones have these probabilities [n, classes]."""
    return _cost(probabilities, arrived, lambda part, _: stream.split.tail(part.to(stream.placement.device)))


def lost_costs(stream: CutModel, recovery: Recovery, tokens: torch.Tensor, probabilities: torch.Tensor, seed: int,
                bar: Progress) -> list[list[float]]:
    """Pairs of a share of the patches lost and what that costs exact tokens, ascending."""
    split, device, generator = stream.split, stream.placement.device, torch.Generator().manual_seed(seed)
    costs = [0.0]
    for share in SHARES_LOST:
        received = torch.ones(tokens.shape[:2], dtype=torch.bool)
        patches = split.tokens - split.prefix_tokens
        received[:, split.prefix_tokens:] = torch.rand(len(tokens), patches, generator=generator).argsort(1) >= round(share * patches)

        def recovered(part: torch.Tensor, chosen: slice, received: torch.Tensor = received, share: float = share) -> torch.Tensor:
            mask = received[chosen].to(device)
            rates = torch.full((len(part),), share, device=device)
            return recovery.recover(part.to(device) * mask[:, :, None], mask, rates).logits(split)
        costs.append(_cost(probabilities, tokens, recovered))
        bar.update()
    rising = np.maximum.accumulate(costs)      # that more lost patches cost less is chance
    return [[share, float(cost)] for share, cost in zip((0.0, *SHARES_LOST), rising, strict=True)]


def _cost(probabilities: torch.Tensor, tokens: torch.Tensor, answer: Callable[[torch.Tensor, slice], torch.Tensor]) -> float:
    """The mean of p(a) - p(b), with `answer` to the tokens of a slice of the images."""
    parts = [slice(start, start + BATCH) for start in range(0, len(tokens), BATCH)]
    classes = torch.cat([answer(tokens[part], part).argmax(1).cpu() for part in parts])
    return round(cost(probabilities, classes), 6)
