"""The wire between edge and bridge, without sockets, clocks and threads. docs/protocol.md describes it."""

from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame, groups_needed
from evitif.protocol.frames.reassembly import Reassembler, ReceivedFrame
from evitif.protocol.rate.statistics import LinkStatistics
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.parameters import StreamParameters

__all__ = ['Answer', 'BridgeConfig', 'BridgeEndpoint', 'EdgeConfig', 'EdgeConnection', 'Key', 'LinkStatistics', 'Packetiser',
           'Reassembler', 'ReceivedFrame', 'RobotKeys', 'StreamParameters', 'TokenFrame', 'groups_needed']
