"""The robot's end of the link."""

from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.connection import EdgeConnection

__all__ = ['EdgeConfig', 'EdgeConnection']
