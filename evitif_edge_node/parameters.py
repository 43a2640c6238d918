"""Every parameter of the edge node and of the camera node."""

from __future__ import annotations

from evitif_ros.model_parameters import MODEL_PARAMETERS, OFF, TRANSPORT_PARAMETERS, model_arguments
from evitif_ros.parameters import USE_FQN, Changeable, NodeParameter

IMAGE_TRANSPORTS = ('raw', 'compressed')

_RUNTIME_PARAMETERS = (
    NodeParameter('robot_name', 'robot', "the robot's name; the bridge publishes below it", required=True),
    NodeParameter('bridge_host', '127.0.0.1', 'host name or IP address of the bridge', required=True),
    NodeParameter('bridge_port', 7600, 'UDP port of the bridge', minimum=1, maximum=65_535),
    NodeParameter('key_file', '', 'file with the key that seals the link, the same as on the bridge, made by `evitif key new`; empty: '
                  'none'),
    NodeParameter('unsealed', False, 'run the link without a key, which anybody on the network can read and forge; without '
                  '`key_file` the node does not start unless this is true'),
    NodeParameter('top_k', OFF, "classes in a prediction, most likely first; the bridge is asked for them, and sends as many as fit into "
                  "a datagram; -1: as many as the bridge's top_k, answering alone 5", 'classes', OFF, 1000),
    NodeParameter('max_rate', 0.0, 'most frames taken a second, the others are dropped; 0: no limit', 'Hz', 0.0,
                  1000.0),
    NodeParameter('answer_deadline', 0.5, 'a frame without an answer counts as expired after this time from sending',
                  's', 0.001, 60.0),
    NodeParameter('link_timeout', 1.0, 'the link counts as lost after this time of silence', 's', 0.25, 600.0),
    NodeParameter('local_fallback', False, 'answer alone, with the whole model, when the bridge does not'),
    NodeParameter('min_packets', 24, 'spread each frame over at least as many packets, so that one lost packet is a '
                  'small loss; strategy selection cuts its small frames as the measured loss asks for', 'packets', 1, 4096),
    NodeParameter('prefix_copies', 0, 'packets of a frame that carry each prefix token; 0: the class token in all of a '
                  'small frame', 'packets', 0, 4096),
    NodeParameter('patch_copies', 0, 'packets of a frame that carry each patch token; 0: as many as cost least at the measured '
                  'loss, or with one quantisation as many as the bytes of int8 once allow', 'packets', 0, 16),
    NodeParameter('rate_limit', 0.0, 'never send more than this over any second, IP and UDP headers included; at least 0.3; 0: no '
                  'limit', 'Mbit/s', 0.0, 10_000.0),
    NodeParameter('congestion_control', True, 'send as fast as the path allows without a queue; false only where nobody shares it'),
    *TRANSPORT_PARAMETERS,
)

_STRATEGY_PARAMETERS = (
    NodeParameter('delta', -1.0, 'strategy selection: share of the attention that the sent patches have; -1: as calibrated', '', -1.0, 1.0),
    NodeParameter('eta', -1.0, 'strategy selection: below this uncertainty of its light model the robot answers alone, 0: never; -1: as '
                  'calibrated', '', -1.0, 64.0),
    NodeParameter('partition_device', '', 'strategy partition: which of its devices this is, by name or number'),
)

EDGE_PARAMETERS = (
    *MODEL_PARAMETERS,
    *_RUNTIME_PARAMETERS,
    *_STRATEGY_PARAMETERS,
    NodeParameter('image_transport', 'raw', 'subscribe `image` (raw) or `image/compressed`', choices=IMAGE_TRANSPORTS),
    NodeParameter('significant_bits', 0, 'of samples of 16 bits, those that the sensor fills: 10 or 12 of mono16, say; 0: found out from '
                  'the images', 'bits', 0, 16),
    NodeParameter('image_timeout', 2.0, 'warn on /diagnostics after this time without an image', 's', 0.1, 3600.0,
                  changeable=Changeable.ALWAYS),
    NodeParameter('publish_stats_rate', 1.0, 'messages a second on `link_stats`', 'Hz', 0.1, 50.0,
                  changeable=Changeable.ALWAYS),
    NodeParameter('annotated_height', 480, 'height of `~/annotated_image`', 'pixels', 120, 2160,
                  changeable=Changeable.ALWAYS),
    USE_FQN,
)

CAMERA_PARAMETERS = (
    NodeParameter('source', 'fashion-mnist', '`fashion-mnist`, a folder of images (one folder a class, or flat), an '
                  'image, a video file, or a camera: its number or /dev/video0', required=True),
    NodeParameter('split', 'test', 'part of a data set', choices=('train', 'test')),
    NodeParameter('significant_bits', 0, 'of image files with more than 8 bits, those that are used; 0: found out from the files', 'bits',
                  0, 16),
    NodeParameter('rate', 10.0, 'images a second', 'Hz', 0.01, 1000.0, changeable=Changeable.ALWAYS),
    NodeParameter('loop', True, 'begin again after the last image'),
    NodeParameter('count', 0, 'stop after as many images; 0: no limit', 'images', 0),
    NodeParameter('start_index', 0, 'first image of a data set or folder', 'images', 0),
    NodeParameter('shuffle', False, 'another order than by name, the same for the same `seed`'),
    NodeParameter('seed', 0, 'of the shuffled order', minimum=0, maximum=2 ** 32 - 1),
    NodeParameter('width', 0, 'asked of a camera device; 0: its own choice', 'pixels', 0, 16_384),
    NodeParameter('height', 0, 'asked of a camera device; 0: its own choice', 'pixels', 0, 16_384),
    NodeParameter('frame_id', 'camera_optical_frame', "frame_id of the images' headers: z forward, x right (REP 103)"),
    NodeParameter('camera_info_url', '', 'calibration for `camera_info`: file:///PATH or package://PACKAGE/PATH of a YAML file as '
                  'camera_calibration writes it; empty: uncalibrated'),
    NodeParameter('publish_compressed', False, 'publish `image/compressed` (JPEG) as well'),
    NodeParameter('jpeg_quality', 90, 'of `image/compressed`', 'percent', 1, 100, changeable=Changeable.ALWAYS),
    NodeParameter('wait_for_subscribers', 0, 'wait for as many subscriptions of the images before the first one',
                  'subscriptions', 0, 1000),
    NodeParameter('exit_when_done', False, 'end the process after the last image'),
)


def edge_runtime_config(values: dict):
    """The EdgeRuntimeConfig that parameter values describe. Raises ValueError where values contradict each other."""
    from evitif.pipeline import EdgeRuntimeConfig
    own = {parameter.name: values[parameter.name] for parameter in _RUNTIME_PARAMETERS}
    own['key_file'] = own['key_file'] or None
    own['top_k'] = None if own['top_k'] == OFF else own['top_k']
    own |= {name: None if values[name] < 0 else values[name] for name in ('delta', 'eta')}
    own['partition_device'] = values['partition_device'] or None
    return EdgeRuntimeConfig(**model_arguments(values), **own)
