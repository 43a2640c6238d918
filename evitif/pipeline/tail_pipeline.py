"""Received frame to answer: dequantise, recover, tail. No threads, no sockets."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from evitif.model.folder import artifact_beside, find_model_folder
from evitif.pipeline.configuration import BridgeRuntimeConfig
from evitif.pipeline.split_stream import SplitStream, top_classes
from evitif.protocol.answer import Answer
from evitif.protocol.reassembly import ReceivedFrame
from evitif.recovery import LEARNED, METHODS, ArtifactError, Recovered, Recovery, load_recovery


class TailPipeline:
    """The bridge's computation for one frame. Building it loads the model and the recovery; see `choose_recovery`."""

    def __init__(self, config: BridgeRuntimeConfig):
        self.stream = SplitStream.load(config)
        self.recovery, self.recovery_note = choose_recovery(config, self.stream)
        self.top_k = config.top_k

    def answer(self, frame: ReceivedFrame, now=time.monotonic) -> Answer:
        """Compute the answer to `frame`; `now` is the clock that `frame.first_arrival` was read from."""
        began = now()
        parameters, device = self.stream.parameters, self.stream.placement.device
        received = frame.received.reshape(parameters.tokens, parameters.groups).all(1)
        tokens = torch.from_numpy(self.stream.quantisers[frame.quantisation].dequantise(frame.rows))[None].to(device)
        lost = not received.all()
        recovered, name = Recovered(tokens), 'none'
        if lost:
            with torch.inference_mode():
                recovered = self.recovery.recover(tokens, torch.from_numpy(received)[None].to(device),
                                                  torch.tensor([frame.packet_error_rate], device=device))
            name = self.recovery.name
        recovered_at = now()
        class_ids, scores = top_classes(self.stream.tail(recovered), self.top_k)
        done = now()
        return Answer(
            frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=class_ids, scores=scores,
            strategy='split', recovery=name, packets_received=frame.packets_received,
            packets_expected=frame.packets_expected, bytes_received=frame.bytes_received,
            tokens_received=int(received.sum()), tokens_expected=parameters.tokens, received=received,
            packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival,
            wait_s=max(0.0, began - frame.first_arrival), recovery_s=recovered_at - began, tail_s=done - recovered_at,
            hold_s=max(0.0, done - frame.first_arrival))

    def warm_up(self) -> None:
        """Run recovery and tail once: the first run allocates and is several times slower."""
        parameters = self.stream.parameters
        units = parameters.tokens * parameters.groups
        received = np.ones(units, bool)
        received[-parameters.groups:] = False
        self.answer(ReceivedFrame(
            session_id=0, robot='', frame_id=0, capture_stamp_ns=0, source_frame='',
            rows=np.zeros((units, parameters.row_bytes), np.uint8), received=received, packets_received=1,
            packets_expected=1, bytes_received=0, packet_error_rate=0.5, first_arrival=0.0, ready_at=0.0,
            complete=False, quantisation=parameters.quantisation, units_sent=units))


def choose_recovery(config: BridgeRuntimeConfig, stream: SplitStream) -> tuple[Recovery, str]:
    """The recovery that `config.recovery` asks for and a sentence for the log.

    `auto` is the one of `recovery_artifact`, else the PALDN that lies in the model folder for this cut, else the one that
    ships for the timm model of that name, if the weights are those it was trained for, else omission, which works with
    every model. Raises ArtifactError when a trained one was asked for and none fits.
    """
    cut, name = stream.parameters.cut, config.recovery
    if name in METHODS and config.recovery_artifact:
        raise ArtifactError(f'recovery_artifact {config.recovery_artifact!r} was given, but recovery is {name!r}: '
                            f'expected auto or one of {", ".join(LEARNED)}')
    artifact = config.recovery_artifact
    if artifact is None and name not in METHODS:
        artifact = artifact_beside(config.model, cut, 'paldn' if name == 'auto' else name)
    unfit = ''
    if artifact is not None:
        try:
            return _trained(artifact, name, stream)
        except ArtifactError as error:
            if name != 'auto' or config.recovery_artifact or find_model_folder(config.model) is not None:
                raise
            unfit = f'{error}; '        # other weights of an architecture that a PALDN ships for
    if name in LEARNED:
        raise ArtifactError(f'recovery {name} was asked for, but none was trained for {config.model} at cut {cut}: '
                            f'train it with `evitif train recovery --method {name}`, or set recovery to auto')
    note = f'recovery by {name}'
    if name == 'auto':
        name = 'omission'
        note = (f'recovery by omission: {unfit}no PALDN was trained for {stream.parameters.model} at cut {cut} '
                '(train one with `evitif train recovery`)')
    return METHODS[name](stream.blank_tokens, stream.parameters.prefix_tokens, stream.parameters.grid), note


def _trained(artifact: Path | str, name: str, stream: SplitStream) -> tuple[Recovery, str]:
    network, description = load_recovery(artifact, stream.parameters.fingerprint, stream.split)
    if name not in ('auto', network.name):
        raise ArtifactError(f'recovery artifact {artifact} is of the kind {network.name}, but recovery is {name!r}')
    if network.options.get('certainty') and not stream.split.takes_key_bias:
        raise ArtifactError(f'recovery artifact {artifact} weights its estimates in the attention of the tail, but the '
                            f'blocks of {stream.parameters.model} take no bias on a token: set recovery to omission')
    low, high = description.get('loss_range', (0, 1))
    title = 'PALDN' if network.name == 'paldn' else network.name
    return (network.to(stream.placement.device),
            f'recovery by {title} from {artifact}, trained for {100 * low:.0f} to {100 * high:.0f} % loss')
