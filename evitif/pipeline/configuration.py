"""What has to be known to build either half. Names and defaults are those of the nodes' parameters."""

from __future__ import annotations

from dataclasses import dataclass

from evitif.protocol.rate.pacing import MIN_LIMIT_BIT_S
from evitif.protocol.wire.datagram import SEAL_BYTES
from evitif.vocabulary import RecoveryName, Strategy

AUTO = 'auto'               # whichever the table beside the model calls for (`evitif.pipeline.strategy_table`)
STRATEGIES = (*Strategy.values(), AUTO)
DEFAULT_TOP_K = 5


@dataclass(frozen=True)
class ModelConfig:
    """The model, its cut and where it runs; the same on both sides but for `device` and what follows."""

    strategy: str = 'split'                 # a name in STRATEGIES
    model: str = 'artifacts/fashion_mnist'  # a model folder, or the name of a timm model; of `selection` the large one
    checkpoint: str | None = None           # a file with weights for a timm name
    pretrained: bool = False                # weights from timm's hub
    random_seed: int | None = None          # random weights, for trials
    num_classes: int | None = None
    image_size: int | None = None           # pixels; None: the model's own
    cut: int | None = None                  # after this block; None: the model folder's, else half of the depth
    quantisation: str = 'auto'              # a transform code where one was fitted, else int8; or a name in QUANTISATIONS
    max_datagram_bytes: int = 1200          # UDP payload
    device: str = 'cpu'
    allow_device_fallback: bool = False
    precision: str = 'fp32'                 # fp32, fp16 or bf16
    threads: int = 0                        # of PyTorch on the CPU; 0: as many as are quickest, see `evitif.pipeline.threads`
    labels_file: str | None = None          # one label a line
    light_model: str | None = None          # of `selection`: the light model's folder, with its selection.json
    partition: str | None = None            # of `partition`: its folder, in the place of `model`
    auto_frame_bytes: float = 0.0           # of `auto`: bytes for an image, both ways, that the link should carry; 0: any
    auto_loss: float = 0.0                  # the same: the packet error rate that is expected, 0 to 1
    auto_multiply_adds: float = 0.0         # the same: millions for an image, that the robot can afford; 0: any

    def __post_init__(self):
        _require(self.strategy in STRATEGIES, 'strategy', self.strategy, ', '.join(STRATEGIES))
        for strategy, name in (('selection', 'light_model'), ('partition', 'partition')):
            _require(self.strategy != strategy or bool(getattr(self, name)), name, getattr(self, name),
                     f'a folder, since the strategy is {strategy}')
        for name in ('auto_frame_bytes', 'auto_multiply_adds'):
            _require(getattr(self, name) >= 0, name, getattr(self, name), 'at least 0')
        _require(0 <= self.auto_loss < 1, 'auto_loss', self.auto_loss, 'at least 0 and less than 1')
        _require(self.threads >= 0, 'threads', self.threads, 'at least 0')

    @property
    def unsealed_datagram_bytes(self) -> int:
        """Bytes of UDP payload that a seal leaves to the rest of a datagram."""
        return self.max_datagram_bytes


@dataclass(frozen=True)
class LinkConfig(ModelConfig):
    """What seals the link. One of the two has to be set before a runtime is built."""

    batching: str = 'auto'                  # a system call takes a run of datagrams: auto (where it can), on (else fail) or off
    dscp: int = 0                           # 0 to 63, of every datagram sent (RFC 2474)
    key_file: str | None = None             # a pre-shared key; on the bridge also a folder of <robot_name>.key
    unsealed: bool = False                  # the link has no key, and that is meant

    def __post_init__(self):
        super().__post_init__()
        _require(self.batching in BATCHING, 'batching', self.batching, ', '.join(BATCHING))
        _require(0 <= self.dscp <= 63, 'dscp', self.dscp, '0 to 63')

    @property
    def unsealed_datagram_bytes(self) -> int:
        return self.max_datagram_bytes - (SEAL_BYTES if self.key_file else 0)


@dataclass(frozen=True)
class EdgeRuntimeConfig(LinkConfig):
    """The robot's half."""

    robot_name: str = 'robot'
    bridge_host: str = '127.0.0.1'
    bridge_port: int = 7600
    top_k: int | None = None                # classes in a prediction; None: as many as the bridge sends, alone DEFAULT_TOP_K
    max_rate: float = 0.0                   # frames/s; 0: no limit
    answer_deadline: float = 0.5            # seconds from sending
    link_timeout: float = 1.0               # seconds of silence after which the link counts as lost
    local_fallback: bool = False            # answer alone when no answer comes
    min_packets: int = 24
    prefix_copies: int = 0                  # packets that carry each prefix token; 0: automatic
    patch_copies: int = 0                   # packets that carry each patch token; 0: automatic
    delta: float | None = None              # of `selection`: the share of the scores that is sent; None: as calibrated
    eta: float | None = None                # the same: below this uncertainty the robot answers alone
    partition_device: str | None = None     # of `partition`: which device this is, its name or number
    rate_limit: float = 0.0                 # Mbit/s over any second, IP and UDP headers included; 0: none
    congestion_control: bool = True         # False only where nobody shares the path

    def __post_init__(self):
        super().__post_init__()
        _require(self.strategy != 'partition' or bool(self.partition_device), 'partition_device', self.partition_device,
                 'the name or number of a device, since the strategy is partition')
        _require(bool(self.robot_name), 'robot_name', self.robot_name, 'a name')
        _require(self.top_k is None or self.top_k >= 1, 'top_k', self.top_k, 'at least 1')
        _require(self.max_rate >= 0, 'max_rate', self.max_rate, 'at least 0 Hz')
        _require(self.rate_limit == 0 or 1e6 * self.rate_limit >= MIN_LIMIT_BIT_S, 'rate_limit', self.rate_limit,
                 f'0 (none) or at least {MIN_LIMIT_BIT_S / 1e6:g} Mbit/s')
        _require(self.answer_deadline > 0, 'answer_deadline', self.answer_deadline, 'more than 0 s')
        _require(self.link_timeout > 0, 'link_timeout', self.link_timeout, 'more than 0 s')


@dataclass(frozen=True)
class BridgeRuntimeConfig(LinkConfig):
    """The off-board half."""

    bridge_name: str = 'bridge'
    bind_host: str = '0.0.0.0'
    port: int = 7600
    top_k: int = DEFAULT_TOP_K              # classes in a prediction
    recovery: str = 'auto'                  # auto (paldn where one was trained, else omission) or a name in evitif.recovery.ALL
    recovery_artifact: str | None = None    # <name>-cut<k>.json; None: the one in the model folder
    reassembly_deadline: float = 0.1        # seconds from a frame's first packet
    join_deadline: float = 0.1              # of `partition`: seconds from the first packet of the first device's frame
    session_timeout: float = 2.0            # seconds of silence after which a robot counts as gone
    answer_copies: int = 0                  # 0: as many as the measured loss asks for
    max_robots: int = 64
    max_batch: int = 16                     # frames of several robots that the tail takes at once; fewer where those are as fast

    def __post_init__(self):
        super().__post_init__()
        _require(self.top_k >= 1, 'top_k', self.top_k, 'at least 1')
        _require(self.recovery in RECOVERIES, 'recovery', self.recovery, ', '.join(RECOVERIES))
        _require(self.max_batch >= 1, 'max_batch', self.max_batch, 'at least 1 frame')
        for name in ('reassembly_deadline', 'join_deadline'):
            _require(getattr(self, name) > 0, name, getattr(self, name), 'more than 0 s')


BATCHING = {'auto': None, 'on': True, 'off': False}
RECOVERIES = ('auto', *(name for name in RecoveryName.values() if name != RecoveryName.NONE))


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f'{name} is {value!r}: expected {expected}')
