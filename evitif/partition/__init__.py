"""A model divided by class among several devices, each with a pruned sub-model, and fused off-board (system 3)."""

from evitif.partition.artifact import DeviceEntry, DeviceModel, Fusion, load_device, load_fusion, read_partition

__all__ = ['DeviceEntry', 'DeviceModel', 'Fusion', 'load_device', 'load_fusion', 'read_partition']
