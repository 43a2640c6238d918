"""The strategy `split` off-board: dequantise, recover, tail. No threads, no sockets."""

from __future__ import annotations

import functools
import math
import time
import timeit
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from evitif.heads import Asked, chosen_heads
from evitif.heads.classify import classes_of
from evitif.heads.results import Classes, Result
from evitif.image_size import size_text
from evitif.model.folder import artifact_beside, find_model_folder
from evitif.pipeline.arriving_maps import KINDS
from evitif.pipeline.coded_states import CodedStates
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.smoothing import GAP, Smoothing
from evitif.pipeline.strategy import BridgeStrategy, Outcome, blank_frame
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.recovery import (
    LEARNED,
    METHODS,
    ArtifactError,
    LearnedRecovery,
    LinearCompletion,
    Memories,
    Memory,
    Recovered,
    Recovery,
    load_recovery,
)
from evitif.recovery.artifact import require_known
from evitif.recovery.memory import stacked
from evitif.recovery.trust import trust_in
from evitif.settings import AUTO, RecoverySettings, SplitBridgeSettings
from evitif.vocabulary import RecoveryName, Strategy

BATCH_SECONDS = 0.05        # the longest that a batch may take: a frame that comes just after its start waits for its end
BATCH_GAIN = 1.05           # a larger batch has to be this much faster for each frame
NEXT_TO_NOTHING = 0.1       # share of the patches that arrived, below which an answer counts as one from memory


class SplitBridge(BridgeStrategy):
    """Recovery and tail for one frame or several. Building it loads the model and the recovery; see `choose_recovery`."""

    name = Strategy.SPLIT

    def __init__(self, config: SplitBridgeSettings):
        self.model = model = CutModel.load(config, with_heads=True)
        self.heads = chosen_heads(config.heads)
        self.parameters, self.labels, self.placement = model.parameters, model.labels, model.placement
        self.streams = (model.parameters,)
        self.description = (f'model {model.parameters.model}, tail after block {model.parameters.cut} of '
                            f'{model.split.depth} on {model.placement.sentence}'
                            + (f'; probabilities are filtered over time, so what is new shows about {config.smoothing:g} s later'
                               if config.smoothing else ''))
        self.recovery, self.recovery_sentence = choose_recovery(config, model)
        self.top_k = config.top_k
        self._states = None if model.entropy is None else CodedStates(model.entropy.code, model.parameters, config.max_robots)
        self._memories = _memories(config, model, self.recovery)
        self._smoothing = Smoothing(config.smoothing, config.max_robots) if config.smoothing else None

    def answer_batch(self, frames: Sequence[ReceivedFrame]) -> list[Outcome]:
        """Run the tail once for all whole frames, and once for each length of sequence among the others."""
        began = time.monotonic()
        decoded = [self._decoded(frame) for frame in frames]
        received = [places for _, places in decoded]
        tokens = torch.from_numpy(np.stack([values for values, _ in decoded])).to(self.placement.device)
        whole = [index for index, places in enumerate(received) if places.all()]
        pasts = [self._past(frame, values, places) for frame, values, places in zip(frames, tokens, received, strict=True)]
        for frame, places, past in zip(frames, received, pasts, strict=True):
            if frame.coded is not None and not places[self.parameters.prefix_tokens:].any() and past.remembered is None:
                raise ValueError('none of what came of it can be read: the frame that it refers to is not known here')
        parts = self._recover(frames, tokens, received, pasts, [index for index in range(len(frames)) if index not in whole])
        if whole:
            parts.append((whole, Recovered(tokens if len(whole) == len(frames) else tokens[whole])))
        recovered_at = time.monotonic()
        said: dict[int, tuple[Classes, dict[str, Result]]] = {}
        for indices, recovered in _merged(parts):
            said.update(zip(indices, self._said(recovered, [frames[index] for index in indices], [received[index] for index in indices],
                                                [pasts[index] for index in indices]), strict=True))
        recovery_s, tail_s = recovered_at - began, time.monotonic() - recovered_at
        return [Outcome(classes.class_ids, classes.scores, received[index],
                        RecoveryName.NONE if index in whole else self._done_by(pasts[index]), recovery_s, tail_s,
                        pasts[index].remembered, pasts[index].age_s, pasts[index].motion, heads)
                for index, (classes, heads) in sorted(said.items())]

    def _said(self, recovered: Recovered, frames: list[ReceivedFrame], received: list[np.ndarray],
              pasts: list[_Past]) -> list[tuple[Classes, dict[str, Result]]]:
        """What the classifier and the heads that somebody reads say of frames whose tokens were recovered together."""
        asked = []
        for frame, past in zip(frames, pasts, strict=True):
            certainty = past.certainty if past.alone else 1.0
            smoothed = None if self._smoothing is None else self._smoothing.frame(frame.session_id, frame.capture_stamp_ns, past.same_scene)
            asked.append((certainty, smoothed, max(self.top_k, frame.top_k)))

        def asked_for(name: str, index: int) -> Asked:
            certainty, smoothed, top_k = asked[index]
            return Asked(top_k, certainty) if smoothed is None else Asked(top_k, certainty, functools.partial(smoothed, name))
        read = [{head.name for head in self.model.heads} if self.heads_read is None else set(self.heads_read(frame)) for frame in frames]
        heads = [head for head in self.model.heads if any(head.name in names for names in read)]
        results: list[dict[str, Result]] = [{} for _ in frames]
        if heads:
            blocks = {block for head in heads for block in head.reading.blocks}
            there = torch.from_numpy(np.stack(received)).to(recovered.tokens.device)
            probabilities, features = self.model.answers(recovered, blocks, trust_in(recovered, there, [past.memory for past in pasts]))
            for head in heads:
                mine = [asked_for(head.name, index) for index in range(len(frames))]
                for found, names, result in zip(results, read, head.results(features, mine), strict=True):
                    if head.name in names:
                        found[head.name] = result
        else:
            probabilities = torch.from_numpy(self.model.tail_batch(recovered))
        return [(classes_of(row, asked_for('', index)), results[index]) for index, row in enumerate(probabilities)]

    def _done_by(self, past: _Past) -> RecoveryName:
        """What was done about lost tokens of a frame with this past."""
        if past.alone:
            return RecoveryName.MEMORY
        return RecoveryName.OMISSION if self.recovery.name == RecoveryName.MEMORY and past.remembered is None else self.recovery.name

    def forget(self, session_id: int) -> None:
        """As `BridgeStrategy.forget`."""
        if self._memories is not None:
            self._memories.forget(session_id)
        if self._smoothing is not None:
            self._smoothing.forget(session_id)
        if self._states is not None:
            self._states.forget(session_id)

    def _past(self, frame: ReceivedFrame, tokens: torch.Tensor, received: np.ndarray) -> _Past:
        """What is remembered of a frame's places; the frame itself is remembered from now on."""
        if self._memories is None:
            return _Past()
        stream = self._memories.of(frame.session_id)
        memory = stream.see(tokens, torch.from_numpy(received).to(tokens.device), frame.capture_stamp_ns, frame.source_frame)
        if not self.recovery.takes_memory:      # it is only to tell when the scene changes
            return _Past(motion=stream.motion, same_scene=memory is not None)
        return _Past(memory, same_scene=memory is not None).beside(received, self.parameters.prefix_tokens, stream.motion)

    def _decoded(self, frame: ReceivedFrame) -> tuple[np.ndarray, np.ndarray]:
        """The tokens float32 [N, D] of what arrived of a frame, and which these are, bool [N]."""
        if frame.coded is None:
            received = np.asarray(frame.received.reshape(self.parameters.tokens, self.parameters.groups).all(1))
            return self.model.quantisers[frame.quantisation].dequantise(frame.rows), received
        if self._states is None:
            raise ValueError('its tokens are entropy-coded, and this model has no entropy code')
        return self._states.decode(frame.session_id, frame.frame_id, frame.coded)

    def _recover(self, frames: Sequence[ReceivedFrame], tokens: torch.Tensor, received: list[np.ndarray],
                 pasts: list[_Past], lost: list[int]) -> list[tuple[list[int], Recovered]]:
        """Recover the frames `lost`; each result with their indices."""
        # A CPU is faster with one frame at a time, whose places can be gathered (`LinearCompletion.recover`).
        together = tokens.device.type != 'cpu' and isinstance(self.recovery, LearnedRecovery)
        kinds = ([index for index in lost if (pasts[index].memory is None) == none] for none in (True, False))
        groups = [group for group in kinds if group] if together else [[index] for index in lost]
        with torch.inference_mode():
            return [(group, self.recovery.recover(
                tokens[group], torch.from_numpy(np.stack([received[index] for index in group])).to(tokens.device),
                torch.tensor([frames[index].packet_error_rate for index in group], device=tokens.device),
                stacked([pasts[index].memory for index in group])))
                for group in groups]

    def warm_up(self, max_batch: int = 1) -> int:
        """Run everything once; the smallest batch that is about as fast for each frame as any that takes at most BATCH_SECONDS."""
        self.answer_batch([self._blank_frame(1)])
        # Processor time on a CPU, so that other load at start-up does not distort the measurement.
        timer = time.thread_time if self.placement.device.type == 'cpu' else time.perf_counter
        seconds = {}
        for size in sorted({*(1 << bit for bit in range(max_batch.bit_length())), max_batch}):
            frames = [self._blank_frame(0)] * size
            taken = min(timeit.repeat(lambda frames=frames: self.answer_batch(frames), timer=timer, number=1, repeat=2))
            if seconds and taken > BATCH_SECONDS:
                break
            seconds[size] = taken / size
        return min(size for size, taken in seconds.items() if taken <= BATCH_GAIN * min(seconds.values()))

    def _blank_frame(self, lost_tokens: int) -> ReceivedFrame:
        units = self.parameters.units
        return blank_frame(self.parameters, np.arange(units) < units - lost_tokens * self.parameters.groups)


@dataclass(frozen=True, eq=False)
class _Past:
    """What memory had for a frame, and the part that it has in the answer."""

    memory: Memory | None = None
    remembered: np.ndarray | None = None    # bool [tokens], that stand in for lost ones
    age_s: float = math.nan                 # of these, on average
    motion: float = math.nan                # 1/s
    alone: bool = False                     # next to nothing arrived
    certainty: float = 1.0                  # of an answer from what arrived and what is remembered
    same_scene: bool = False                # as the frames before show

    def beside(self, received: np.ndarray, prefix_tokens: int, motion: float) -> _Past:
        """The same with the part that it has, next to what was `received`, bool [tokens].

        The share of its probability that an answer keeps while the scene changes is about the correlation that its tokens keep
        (measured, docs/recovery.md), so the mean trust is the certainty.
        """
        if self.memory is None:
            return self
        remembered = self.memory.known[0].cpu().numpy() & ~received
        if not remembered.any():
            return replace(self, motion=motion)
        trust = np.where(received, 1.0, self.memory.trust[0].cpu().numpy())
        return replace(self, remembered=remembered, age_s=float(self.memory.age_s[0].cpu().numpy()[remembered].mean()), motion=motion,
                       alone=received[prefix_tokens:].mean() < NEXT_TO_NOTHING, certainty=float(trust[prefix_tokens:].mean()))


def _memories(config: SplitBridgeSettings, model: CutModel, recovery: Recovery) -> Memories | None:
    if not config.smoothing and not (config.memory_limit and recovery.takes_memory):
        return None
    if isinstance(recovery, LinearCompletion):
        centre, scale, chance = recovery.mean, recovery.scale, float(recovery.chance)
    else:
        centre, scale, chance = model.blank_tokens, torch.ones_like(model.blank_tokens[0]), None
    # What is said of each place has to lie where the picture is now; one class of the whole hardly depends on it (docs/recovery.md).
    follows = any(head.task in KINDS for head in model.heads)
    return Memories(config.max_robots, centre, scale, model.parameters.prefix_tokens, config.memory_limit or GAP * config.smoothing, chance,
                    model.parameters.grid if follows else None)


def _merged(parts: list[tuple[list[int], Recovered]]) -> Iterator[tuple[list[int], Recovered]]:
    """Put together frames that the tail can take at once: of one length, all with weights in the attention or all without."""
    alike = defaultdict(list)
    for indices, recovered in parts:
        length = recovered.tokens.shape[1] if recovered.kept is None else recovered.kept.shape[1]
        alike[length, recovered.kept is None, recovered.key_bias is None, id(recovered.tail)].append((indices, recovered))
    for group in alike.values():
        first = group[0][1]
        if len(group) == 1:
            yield group[0]
        else:
            yield sum((indices for indices, _ in group), []), replace(first, **{
                name: torch.cat([getattr(recovered, name) for _, recovered in group])
                for name in ('tokens', 'kept', 'key_bias') if getattr(first, name) is not None})


def choose_recovery(config: RecoverySettings, model: CutModel) -> tuple[Recovery, str]:
    """The recovery that `config.recovery` asks for and a sentence for the log.

    `auto` is the one of `recovery_artifact`, else the PALDN in the model folder for this cut, else the one that ships for the timm
    model of that name, if it was trained for these weights, else the last known tokens, which works with every model, or omission where
    there is no memory. Raises ArtifactError if a
    trained one was asked for and none fits.
    """
    cut, name = model.parameters.cut, config.recovery
    require_known(name)
    if name in METHODS and config.recovery_artifact:
        raise ArtifactError(f'recovery_artifact {config.recovery_artifact!r} was given, but recovery is {name!r}: '
                            f'expected auto or one of {", ".join(LEARNED)}')
    artifact = config.recovery_artifact
    if artifact is None and name not in METHODS:
        artifact = artifact_beside(config.model, cut, RecoveryName.PALDN if name == AUTO else name, model.identity.suffix)
    unfit = ''
    if artifact is not None:
        try:
            return _trained(artifact, name, model)
        except ArtifactError as error:
            if name != AUTO or config.recovery_artifact or find_model_folder(config.model) is not None:
                raise
            unfit = f'{error}; '        # other weights of an architecture that a PALDN ships for
    if name in LEARNED:
        raise ArtifactError(f'recovery {name} was asked for, but none was trained for {config.model} at cut {cut}: '
                            f'train it with `evitif train recovery --method {name}`, or set recovery to auto')
    sentence = f'recovery by {name}'
    if name == AUTO:
        name = RecoveryName.MEMORY if getattr(config, 'memory_limit', 0) else RecoveryName.OMISSION
        way = 'the last known tokens, else by omission' if name == RecoveryName.MEMORY else 'omission'
        sentence = (f'recovery by {way}: {unfit}no PALDN was trained for {model.parameters.model} at cut {cut} '
                    '(train one with `evitif train recovery`)')
    return METHODS[RecoveryName(name)](model.blank_tokens, model.parameters.prefix_tokens, model.parameters.grid), sentence


def _trained(artifact: Path | str, name: str, model: CutModel) -> tuple[Recovery, str]:
    network, description = load_recovery(artifact, model.identity, model.split)
    if name not in (AUTO, network.name):
        raise ArtifactError(f'recovery artifact {artifact} is of the kind {network.name}, but recovery is {name!r}')
    if network.options.get('certainty') and not model.split.takes_key_bias:
        raise ArtifactError(f'recovery artifact {artifact} weights its estimates in the attention of the tail, but the '
                            f'blocks of {model.parameters.model} take no bias on a token: set recovery to omission')
    low, high = description.get('loss_range', (0, 1))
    title = 'PALDN' if network.name == RecoveryName.PALDN else network.name
    fitted = description['sequence']['grid']
    taken = '' if tuple(fitted) == model.split.grid else f', taken from {size_text(fitted)} to {size_text(model.split.grid)} patches'
    return (network.to(model.placement.device),
            f'recovery by {title} from {artifact}, trained for {100 * low:.0f} to {100 * high:.0f} % loss{taken}')
