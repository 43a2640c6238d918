"""An earlier partition of the same model whose sub-models and fusion a retraining goes on from, instead of pruning anew."""

from __future__ import annotations

from pathlib import Path

import torch

from evitif.partition import load_device, load_fusion


class EarlierPartition:
    """What a training needs of it; read whole, so that a damaged one is refused at once.

    Raises ArtifactError where it cannot be read, ValueError where it is of another model or of another number of devices.
    """

    def __init__(self, folder: Path | str, original: str, devices: int):
        """:param original: hex SHA-256: the fingerprint of the model that is to be divided"""
        fusion = load_fusion(folder)
        description = fusion.partition
        if description.original != original:
            raise ValueError(f'the partition {folder} to begin with is of a model with fingerprint {description.original[:16]}…: expected '
                             f'{original[:16]}…, the model that is to be divided')
        if len(description.devices) != devices:
            raise ValueError(f'the partition {folder} to begin with has {len(description.devices)} devices: expected {devices}')
        self.fingerprint = description.fingerprint
        self.redundancy = description.redundancy
        self._content = description.content
        self._fusion = fusion.network
        self._models = [load_device(folder, entry.index).module for entry in description.devices]

    @property
    def subsets(self) -> dict:
        """As the step `subsets` finds it."""
        return {'subsets': [entry['classes'] for entry in self._content['devices']], 'figures': self._content['figures'].get('subsets', {})}

    @property
    def body(self) -> dict:
        """As the step `body` finds it."""
        names = ('shape', 'parameters', 'multiply_adds', 'pruned_harder')
        return {'devices': [{'device': entry['name'], **{name: entry[name] for name in names}} for entry in self._content['devices']],
                'figures': self._content['figures'].get('body', [])}

    @property
    def pruned(self) -> dict:
        """As the step `prune` finds it, with the weights of the fusion."""
        devices = [{**entry, 'pruning': earlier['pruning']}
                   for entry, earlier in zip(self.body['devices'], self._content['devices'], strict=True)]
        return {'devices': devices, 'weights': [_weights(model) for model in self._models], 'fusion': _weights(self._fusion),
                'figures': {'devices': devices}}

    def require_held_out(self, held_out: int, **same) -> None:
        """That it learnt from none of the images that are to be `held_out`, which `same` (settings of its training) tell apart. Raises
        ValueError."""
        made = self._content['made_by']['configuration']
        before = {'held_out': made.get('held_out', 0), **{name: made.get(name) for name in same}}
        if held_out and before != {'held_out': held_out, **same}:
            raise ValueError(f'held_out is {held_out} with {same}, and the partition to begin with was trained with {before}: expected the '
                             'same, or it has learnt from what is to be held out; or 0')

    @property
    def commands(self) -> list[str]:
        """Those that made it, the first one first."""
        made = self._content['made_by']
        return [*made.get('after', []), made['command']]


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
