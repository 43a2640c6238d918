"""Every setting of the run time, declared once: name, type, default, unit, range, description, and when it may change."""

from evitif.settings.bridge import (
    BRIDGE_SETTINGS,
    DEFAULT_TOP_K,
    RECOVERIES,
    BridgeSettings,
    PartitionBridgeSettings,
    RecoverySettings,
    SelectionBridgeSettings,
    SplitBridgeSettings,
    bridge_settings,
)
from evitif.settings.declaration import OFF, Changeable, Setting, Settings, bounds_of, setting, settings_of
from evitif.settings.edge import (
    EDGE_SETTINGS,
    EdgeSettings,
    PartitionEdgeSettings,
    SelectionEdgeSettings,
    SplitEdgeSettings,
    edge_settings,
)
from evitif.settings.link import BATCHING, LinkSettings
from evitif.settings.model import (
    AUTO,
    MODEL_SETTINGS,
    STRATEGY,
    UNCODED,
    AutoSettings,
    CommonSettings,
    ModelSettings,
    PartitionSettings,
    SelectionSettings,
    SplitSettings,
    model_settings,
)

__all__ = [
    'AUTO', 'BATCHING', 'BRIDGE_SETTINGS', 'DEFAULT_TOP_K', 'EDGE_SETTINGS', 'MODEL_SETTINGS', 'OFF', 'RECOVERIES', 'STRATEGY', 'UNCODED',
    'AutoSettings', 'BridgeSettings', 'Changeable', 'CommonSettings', 'EdgeSettings', 'LinkSettings', 'ModelSettings',
    'PartitionBridgeSettings', 'PartitionEdgeSettings', 'PartitionSettings', 'RecoverySettings', 'SelectionBridgeSettings',
    'SelectionEdgeSettings', 'SelectionSettings', 'Setting', 'Settings', 'SplitBridgeSettings', 'SplitEdgeSettings', 'SplitSettings',
    'bridge_settings', 'edge_settings', 'model_settings', 'setting', 'bounds_of', 'settings_of',
]
