"""The bridge's end of its links to robots."""

from evitif.protocol.bridge.config import BridgeConfig
from evitif.protocol.bridge.endpoint import BridgeEndpoint

__all__ = ['BridgeConfig', 'BridgeEndpoint']
