"""Every parameter of the bridge node and of the link simulator node."""

from __future__ import annotations

from evitif_ros.model_parameters import MODEL_PARAMETERS, TRANSPORT_PARAMETERS, model_arguments
from evitif_ros.parameters import USE_FQN, Changeable, NodeParameter

# Those of evitif.pipeline.configuration, which is not imported before it is needed because it imports PyTorch.
RECOVERIES = ('auto', 'zero', 'mean', 'omission', 'interpolation', 'surrogate', 'linear', 'srcnn', 'edsr', 'paldn', 'tuned-tail')

_RUNTIME_PARAMETERS = (
    NodeParameter('bridge_name', 'bridge', "the bridge's name, which robots log", required=True),
    NodeParameter('bind_host', '0.0.0.0', 'address to listen on; 0.0.0.0 or :: for every interface', required=True),
    NodeParameter('port', 7600, 'UDP port to listen on', minimum=1, maximum=65_535),
    NodeParameter('top_k', 5, 'classes in a prediction, most likely first', 'classes', 1, 1000),
    NodeParameter('key_file', '', 'file with the key that seals the links, the same as on the robots, made by `evitif key new`; or a '
                  'folder with <robot_name>.key for each robot; empty: none'),
    NodeParameter('unsealed', False, 'run the link without a key, which anybody on the network can read and forge; without '
                  '`key_file` the node does not start unless this is true'),
    NodeParameter('recovery', 'auto', 'what is done about missing tokens; auto: paldn where one was trained for the '
                  'model and cut, else omission', choices=RECOVERIES),
    NodeParameter('recovery_artifact', '', "description (JSON) of a trained recovery; empty: the model folder's own"),
    NodeParameter('reassembly_deadline', 0.1, "a frame is answered with what has arrived after this time from its "
                  'first packet', 's', 0.001, 10.0),
    NodeParameter('join_deadline', 0.1, "strategy partition: an image is answered with the devices that came after this time from the "
                  "first device's first packet", 's', 0.001, 10.0),
    NodeParameter('session_timeout', 2.0, 'a robot counts as gone after this time of silence', 's', 0.1, 600.0),
    NodeParameter('answer_copies', 0, 'datagrams that each answer is sent in; 0: as many as the measured loss asks for',
                  'copies', 0, 64),
    NodeParameter('max_robots', 64, 'robots served at once; more are refused', 'robots', 1, 4096),
    NodeParameter('max_batch', 16, 'frames of several robots that the tail takes at once; fewer where those are as fast a frame, or more '
                  'would take longer than 50 ms', 'frames', 1, 256),
    *TRANSPORT_PARAMETERS,
)

BRIDGE_PARAMETERS = (
    *MODEL_PARAMETERS,
    *_RUNTIME_PARAMETERS,
    NodeParameter('publish_stats_rate', 1.0, 'messages a second on each `link_stats`', 'Hz', 0.1, 50.0,
                  changeable=Changeable.ALWAYS),
    NodeParameter('keep_topics', 30.0, "a robot's topics are removed after this time without a session", 's', 0.0,
                  86_400.0, changeable=Changeable.ALWAYS),
    USE_FQN,
)


def _direction(name: str, way: str) -> tuple[NodeParameter, ...]:
    def setting(setting_name, default, description, *args):
        return NodeParameter(f'{name}.{setting_name}', default, f'{description}, {way}', *args,
                             changeable=Changeable.ALWAYS)
    return (
        setting('loss', 0.0, 'share of the datagrams that is lost', '0..1', 0.0, 1.0),
        setting('burst_length', 1.0, 'mean number of datagrams lost in a row (Gilbert-Elliott); 1: independent loss',
                'datagrams', 1.0, 1000.0),
        setting('delay', 0.0, 'delay of every datagram', 's', 0.0, 60.0),
        setting('jitter', 0.0, 'added delay, uniform from 0 to this', 's', 0.0, 60.0),
        setting('reorder', 0.0, 'share of the datagrams that is held back so that later ones overtake it', '0..1',
                0.0, 1.0),
        setting('duplicate', 0.0, 'share of the datagrams that arrives twice', '0..1', 0.0, 1.0),
        setting('corrupt', 0.0, 'share of the datagrams of which bits are flipped', '0..1', 0.0, 1.0),
        setting('rate', 0.0, 'rate of the link, IP and UDP headers included; 0: unlimited', 'bit/s', 0.0, 1e12),
    )


LINK_SIMULATOR_PARAMETERS = (
    NodeParameter('listen_host', '0.0.0.0', 'address that robots send to', required=True),
    NodeParameter('listen_port', 7601, 'UDP port that robots send to', minimum=1, maximum=65_535),
    NodeParameter('forward_host', '127.0.0.1', 'host name or IP address of the bridge', required=True),
    NodeParameter('forward_port', 7600, 'UDP port of the bridge', minimum=1, maximum=65_535),
    NodeParameter('seed', 0, 'of the random impairments', minimum=0, maximum=2 ** 32 - 1),
    USE_FQN,
    *_direction('uplink', 'robots to bridge'),
    *_direction('downlink', 'bridge to robots'),
)


def bridge_runtime_config(values: dict):
    """The BridgeRuntimeConfig that parameter values describe. Raises ValueError where values contradict each other."""
    from evitif.pipeline import BridgeRuntimeConfig
    own = {parameter.name: values[parameter.name] for parameter in _RUNTIME_PARAMETERS}
    for name in ('recovery_artifact', 'key_file'):
        own[name] = own[name] or None
    return BridgeRuntimeConfig(**model_arguments(values), **own)


def impairment(direction: str, values: dict):
    """The Impairment of `uplink` or `downlink`. Raises ValueError, e.g. for bursts too short for the loss."""
    from evitif.transport import Impairment
    fields = {'delay': 'delay_s', 'jitter': 'jitter_s', 'rate': 'rate_bit_s'}
    names = ('loss', 'burst_length', 'delay', 'jitter', 'reorder', 'duplicate', 'corrupt', 'rate')
    return Impairment(**{fields.get(name, name): values[f'{direction}.{name}'] for name in names})
