"""How either end uses the link, and what seals it."""

from __future__ import annotations

from dataclasses import dataclass

from evitif.settings.declaration import setting
from evitif.settings.model import CommonSettings

BATCHING = {'auto': None, 'on': True, 'off': False}     # as UdpLoop has it


@dataclass(frozen=True, kw_only=True)
class LinkSettings(CommonSettings):
    """Settings of the link. A runtime needs one of the last two."""

    batching: str = setting(
        'auto', 'send or receive several datagrams with one system call: auto, if kernel and interface can; on, or the node does not '
        'start; off', choices=tuple(BATCHING))
    dscp: int = setting(0, 'differentiated services code point of every datagram sent (RFC 2474); 46 is expedited forwarding', minimum=0,
                        maximum=63)
    ecn: bool = setting(
        True, 'mark datagrams as ECN-capable (ECT(1), RFC 9331), so that a queue that can says that it grows; where none can, it changes '
        'nothing')
    trace_folder: str | None = setting(
        None, 'folder for traces of the link: what arrives here, datagram by datagram, as the link simulator plays it; at most 64 MB of '
        'each robot; empty: none', launch=True)
    key_file: str | None = setting(
        None, 'file with the key that seals the link, the same on edge and bridge, made by `evitif key new`; the bridge also takes a '
        'folder with <robot_name>.key for each robot; empty: none', launch=True)
    unsealed: bool = setting(
        False, 'run the link without a key: anybody on the network can read and forge it; without `key_file` the node starts only if this '
        'is true', launch=True)

