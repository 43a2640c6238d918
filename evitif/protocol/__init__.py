"""The wire between edge and bridge, without sockets, clocks and threads. docs/protocol.md describes it."""

from evitif.protocol.answer import Answer
from evitif.protocol.bridge import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge import EdgeConfig, EdgeConnection
from evitif.protocol.keys import Key, RobotKeys
from evitif.protocol.packetiser import Packetiser, TokenFrame, groups_needed
from evitif.protocol.parameters import StreamParameters
from evitif.protocol.reassembly import Reassembler, ReceivedFrame
from evitif.protocol.statistics import LinkStatistics

__all__ = ['Answer', 'BridgeConfig', 'BridgeEndpoint', 'EdgeConfig', 'EdgeConnection', 'Key', 'LinkStatistics', 'Packetiser',
           'Reassembler', 'ReceivedFrame', 'RobotKeys', 'StreamParameters', 'TokenFrame', 'groups_needed']
