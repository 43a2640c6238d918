"""The model of one side, cut, placed and described to the other side: what edge and bridge have in common."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from evitif.heads import Features, Head, chosen_heads, load_heads, view_for
from evitif.image_size import size_text
from evitif.model.build import ModelSpec, build_model
from evitif.model.code_artifact import choose_code
from evitif.model.cuttable import require_cuttable
from evitif.model.device import Placement
from evitif.model.errors import ArtifactError, ModelError
from evitif.model.field_of_view import fit_of
from evitif.model.model_identity import Identity
from evitif.model.preprocess import Preprocessor
from evitif.model.pretrained import require_classifier
from evitif.model.quantise import TokenQuantiser, row_bytes
from evitif.model.split import SplitModel
from evitif.model.transform_code import RATES
from evitif.pipeline.coded_table import FittedCode, fitted_code
from evitif.pipeline.loading import datagram_room, labels_of, placement_of
from evitif.pipeline.rate_table import RateTable
from evitif.protocol.frames.packetiser import groups_needed
from evitif.protocol.wire.parameters import StreamParameters
from evitif.recovery.methods import Recovered
from evitif.settings import AUTO, UNCODED, SplitSettings
from evitif.vocabulary import Quantisation


@dataclass(frozen=True)
class CutModel:
    """A cut model in its place, with its preprocessing, its quantiser and what it says in the handshake.

    >>> model.parameters.cut, model.parameters.quantisation
    (3, 'klt0.5')
    """

    split: SplitModel
    placement: Placement
    preprocessor: Preprocessor
    quantisers: dict[Quantisation, TokenQuantiser]     # for each of the parameters' `row_formats`
    parameters: StreamParameters
    labels: tuple[str, ...]
    class_names: tuple[str, ...]
    identity: Identity                        # by which it knows what was fitted to it
    rates: RateTable | None = None            # what each quantisation costs, if frames may be sent in several
    entropy: FittedCode | None = None         # if frames are entropy-coded
    heads: tuple[Head, ...] = ()              # beside the model's own classifier, in their place

    @classmethod
    def load(cls, config: SplitSettings, *, with_heads: bool = False) -> CutModel:
        """Build what `config` says. Raises ModelError or ValueError, naming the value and what was expected.

        :param with_heads: load `config.heads` too; else the parameters name them, and that is all
        """
        placement, chosen = placement_of(config), chosen_heads(config.heads)
        size, fit = view_for(chosen)
        try:
            built = build_model(ModelSpec(config.model, config.checkpoint, config.pretrained, config.random_seed, config.num_classes,
                                          config.input_size or size, fit=(fit or AUTO) if config.fit == AUTO else config.fit))
        except ModelError as error:
            if config.input_size or size is None:
                raise
            raise ArtifactError(f'heads {config.heads!r} were trained on {chosen[0].model} for pictures of {size_text(size)} pixels, and '
                                f'{error}') from error
        module: Any = built.module       # timm's attributes have no types
        require_classifier(module, config.model, config.checkpoint, config.pretrained)
        classes = int(module.num_classes)
        require_cuttable(module)
        cut = _default_cut(built.description, len(module.blocks)) if config.cut is None else config.cut
        split = SplitModel(module, cut, built.data_config['input_size'][0])
        identity = Identity.of(module, cut, split.grid, built.native)
        heads = load_heads(config.heads, built.name, split, module) if with_heads else ()
        module.to(placement.device, placement.dtype)
        entropy = fitted_code(config.model, cut, identity, config.quantisation, config.code_folder)
        wanted = AUTO if entropy or config.quantisation == UNCODED else config.quantisation
        name, code, rates = choose_code(config.model, cut, identity, wanted, config.code_folder)
        if config.code_folder and config.quantisation in (AUTO, UNCODED) and not (entropy or code):
            raise ArtifactError(f'code_folder {config.code_folder!r} has no code for {built.name} at cut {cut}: expected one of '
                                '`evitif train code`')
        quantisation, room = Quantisation(name), datagram_room(config)
        groups = groups_needed(split.channels, functools.partial(row_bytes, quantisation), room)
        table = RateTable.of(rates) if wanted == AUTO and not entropy and rates is not None and groups == 1 else None
        kinds = [quantisation, *(Quantisation(kind) for kind in (table.coding if table else ()) if kind != quantisation
                                 and groups_needed(split.channels, functools.partial(row_bytes, kind), room) == 1)]
        quantisers = {kind: TokenQuantiser(kind, split.channels, groups, code if kind in RATES else None) for kind in kinds}
        parameters = StreamParameters(
            model=built.name, fingerprint=identity.fingerprint, cut=cut, quantisation=quantisation,
            image_size=split.image_size, tokens=split.tokens, prefix_tokens=split.prefix_tokens, grid=split.grid,
            channels=split.channels, groups=groups, row_bytes=quantisers[quantisation].row_bytes, classes=classes,
            code='' if code is None else code.digest,
            formats=tuple((kind, quantiser.row_bytes) for kind, quantiser in quantisers.items() if kind != quantisation),
            entropy_code=entropy.code.agreement if entropy else '', heads=tuple(about.identity for about in chosen),
            fit=fit_of(built.data_config))
        return cls(split, placement, Preprocessor(built.data_config), quantisers, parameters,
                   labels_of(config, built.labels, classes), built.class_names, identity, table, entropy,
                   tuple(head.to(placement.device) for head in heads))

    @property
    def quantiser(self) -> TokenQuantiser:
        """The one of the stream's own quantisation."""
        return self.quantisers[self.parameters.quantisation]

    @torch.inference_mode()
    def head(self, image: torch.Tensor) -> torch.Tensor:
        """Preprocessed image [1, C, H, W] to tokens [1, N, D] on the device."""
        return self.split.head(image.to(self.placement.device, self.placement.dtype))

    @torch.inference_mode()
    def tail(self, tokens: torch.Tensor | Recovered) -> np.ndarray:
        """Tokens [1, N, D], or what a recovery made of them, to probabilities float32 [classes]."""
        return self.tail_batch(tokens if isinstance(tokens, Recovered) else Recovered(tokens))[0]

    @torch.inference_mode()
    def tail_batch(self, recovered: Recovered) -> np.ndarray:
        """What a recovery made of B frames' tokens to probabilities float32 [B, classes]."""
        placed = replace(recovered, tokens=recovered.tokens.to(self.placement.device, self.placement.dtype))
        return placed.logits(self.split).float().softmax(1).cpu().numpy()

    @torch.inference_mode()
    def answers(self, recovered: Recovered, blocks: Collection[int], trust: torch.Tensor | None) -> tuple[torch.Tensor, Features]:
        """The same with what heads read: the remaining blocks run once for the classifier and for all of these `blocks`.

        :param trust: [B, N], see `Features`
        :returns: probabilities float32 [B, classes] on the CPU, and the features
        """
        split = recovered.tail or self.split
        tokens = recovered.tokens.to(self.placement.device, self.placement.dtype)
        outputs = split.outputs(tokens, {split.depth, *blocks}, recovered.kept, recovered.key_bias)
        logits = split.classify(outputs[split.depth], recovered.kept, recovered.key_bias)
        return logits.float().softmax(1).cpu(), Features.of_outputs(split, outputs, recovered.kept, recovered.key_bias, trust)

    @property
    def names_its_classes(self) -> bool:
        """Whether the model has names of its own for its classes, and not `class 0`, `class 1`, …"""
        return self.class_names != tuple(f'class {index}' for index in range(len(self.class_names)))

    @functools.cached_property
    def blank_tokens(self) -> torch.Tensor:
        """float32 [N, D] on the device, for the baselines of recovery."""
        return self.split.blank_tokens().float()


def _default_cut(description: dict, depth: int) -> int:
    own = description.get('default_cut')
    return depth // 2 if own is None else int(own)
