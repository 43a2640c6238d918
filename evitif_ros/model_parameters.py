"""The parameters that edge node and bridge node share: the model, its cut, and where it runs."""

from __future__ import annotations

from evitif.vocabulary import Quantisation, Strategy
from evitif_ros.parameters import NodeParameter

OFF = -1  # for integers: left to the default that the description names

MODEL_PARAMETERS = (
    NodeParameter('strategy', 'split', 'how edge and bridge share the work; the same on both: split (head and tail of one model), '
                  'selection (a light model answers or sends the patches that matter), partition (a sub-model of several), auto (split '
                  'or selection, as the figures beside the model and the `auto_` parameters say)', choices=(*Strategy.values(), 'auto')),
    NodeParameter('model', 'artifacts/fashion_mnist', 'a model folder (model.json, model.safetensors), or the name of '
                  'a timm Vision Transformer; the same on edge and bridge', required=True),
    NodeParameter('light_model', '', "strategy selection: folder of the robot's light model with its selection.json; the same on edge "
                  'and bridge, of which `model` is the large one'),
    NodeParameter('partition', '', 'strategy partition: folder with partition.json; the same on edge and bridge, in the place of `model`'),
    NodeParameter('auto_frame_bytes', 0.0, 'strategy auto: what the link can be expected to carry for an image, both ways; the same on '
                  'edge and bridge; 0: any', 'bytes', 0.0, 1e9),
    NodeParameter('auto_loss', 0.0, 'strategy auto: share of the datagrams that is expected to be lost; the same on edge and bridge',
                  '0..1', 0.0, 0.99),
    NodeParameter('auto_multiply_adds', 0.0, 'strategy auto: what the robot can afford for an image; the same on edge and bridge; 0: any',
                  'million multiply-adds', 0.0, 1e9),
    NodeParameter('checkpoint', '', 'file with the weights of a timm model; empty: none'),
    NodeParameter('pretrained', False, "take the weights of a timm model from timm's hub"),
    NodeParameter('random_seed', OFF, 'random weights from this seed, for trials; -1: off', minimum=OFF,
                  maximum=2 ** 32 - 1),
    NodeParameter('num_classes', OFF, "classes of a timm model; -1: the model's own", minimum=OFF, maximum=1_000_000),
    NodeParameter('image_size', OFF, "side of the model's input; -1: the model's own", 'pixels', OFF, 4096),
    NodeParameter('labels_file', '', "text file with one class label a line; empty: the model's own"),
    NodeParameter('cut', OFF, "the head ends after this block, 0: after the embedding; -1: the model folder's, else half "
                  'of the depth; the same on edge and bridge', 'blocks', OFF, 1000),
    NodeParameter('quantisation', 'auto', 'how tokens travel; the same on edge and bridge; auto: as the loss asks for where a '
                  'transform code was fitted, else as int8', choices=('auto', *Quantisation.values())),
    NodeParameter('max_datagram_bytes', 1200, 'largest UDP payload; the same on edge and bridge', 'bytes', 256, 65_507),
    NodeParameter('device', 'cpu', 'where the model runs, as PyTorch names it: cpu, cuda, cuda:1, mps', required=True),
    NodeParameter('allow_device_fallback', False, 'use the CPU, and say so, where `device` is not available'),
    NodeParameter('precision', 'fp32', 'number format that the model computes in', choices=('fp32', 'fp16', 'bf16')),
    NodeParameter('threads', 0, 'CPU threads of PyTorch; 0: what OMP_NUM_THREADS says, else as many as are quickest beside another '
                  'node on the machine, measured at the start', 'threads', 0, 1024),
)

TRANSPORT_PARAMETERS = (
    NodeParameter('batching', 'auto', 'one system call sends or receives a run of datagrams: auto, where kernel and interface can; '
                  'on, or the node does not start; off', choices=('auto', 'on', 'off')),
    NodeParameter('dscp', 0, 'differentiated services code point of every datagram sent (RFC 2474); 46 is expedited forwarding',
                  minimum=0, maximum=63),
)


def model_arguments(values: dict) -> dict:
    """The fields of evitif.pipeline.ModelConfig from parameter values: '' and -1 become None."""
    arguments = {parameter.name: values[parameter.name] for parameter in MODEL_PARAMETERS}
    for name in ('checkpoint', 'labels_file', 'light_model', 'partition'):
        arguments[name] = arguments[name] or None
    for name in ('random_seed', 'num_classes', 'image_size', 'cut'):
        arguments[name] = None if arguments[name] == OFF else arguments[name]
    return arguments
