"""Received frame to answer: dequantise, recover, tail. No threads, no sockets."""

from __future__ import annotations

import time

import numpy as np
import torch

from evitif.pipeline.configuration import BridgeRuntimeConfig
from evitif.pipeline.split_stream import SplitStream, top_classes
from evitif.protocol.answer import Answer
from evitif.protocol.reassembly import ReceivedFrame
from evitif.recovery import METHODS, ArtifactError, Recovery, load_paldn
from evitif.recovery.artifact import artifact_beside


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
        tokens = torch.from_numpy(self.stream.quantiser.dequantise(frame.rows))[None].to(device)
        lost = not received.all()
        kept, name = None, 'none'
        if lost:
            with torch.inference_mode():
                recovered = self.recovery.recover(tokens, torch.from_numpy(received)[None].to(device),
                                                  torch.tensor([frame.packet_error_rate], device=device))
            tokens, kept, name = recovered.tokens, recovered.kept, self.recovery.name
        recovered_at = now()
        class_ids, scores = top_classes(self.stream.tail(tokens, kept), self.top_k)
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
            complete=False))


def choose_recovery(config: BridgeRuntimeConfig, stream: SplitStream) -> tuple[Recovery, str]:
    """The recovery that `config.recovery` asks for and a sentence for the log.

    `auto` is the PALDN that lies in the model folder for this cut, else omission, which works with every model.
    Raises ArtifactError when a PALDN was asked for and none fits.
    """
    cut, identity = stream.parameters.cut, stream.parameters.fingerprint
    name = config.recovery
    artifact = config.recovery_artifact or artifact_beside(config.model, cut)
    if name == 'auto':
        name = 'omission' if artifact is None else 'paldn'
        if name == 'omission':
            return (METHODS[name](stream.blank_tokens, stream.parameters.prefix_tokens),
                    f'recovery by omission: no PALDN was trained for {stream.parameters.model} at cut {cut} '
                    '(train one with `evitif train recovery`)')
    if name == 'paldn':
        if artifact is None:
            raise ArtifactError(f'recovery paldn was asked for, but none was trained for {config.model} at cut {cut}: '
                                'train it with `evitif train recovery`, or set recovery to auto')
        network, description = load_paldn(artifact, identity, cut)
        low, high = description.get('loss_range', (0, 1))
        return (network.to(stream.placement.device),
                f'recovery by PALDN from {artifact}, trained for {100 * low:.0f} to {100 * high:.0f} % loss')
    if config.recovery_artifact:
        raise ArtifactError(f'recovery_artifact {config.recovery_artifact!r} was given, but recovery is {name!r}: '
                            'expected paldn or auto')
    return METHODS[name](stream.blank_tokens, stream.parameters.prefix_tokens), f'recovery by {name}'
