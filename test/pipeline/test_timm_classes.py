"""Models of timm's other classes the whole way: trained on for a few steps, robot, lost packets, bridge, answer."""

import numpy as np
import pytest
import torch
from PIL import Image

from evitif.model.build import ModelSpec, build_model, save_model
from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.split_edge import SplitEdge
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.settings import bridge_settings, edge_settings
from evitif_cli import main

SMALL = {'embed_dim': 32, 'depth': 3, 'num_heads': 2, 'img_size': 32, 'patch_size': 8}
CLASSES = {
    'rotary': ('eva02_tiny_patch14_224', {}),
    'rotary, registers': ('vit_small_patch16_dinov3', {}),
    'rotary, of each block': ('vit_small_patch16_rope_mixed_224', {}),
    'relative': ('beit_base_patch16_224', {}),
    'relative, no class token': ('vit_relpos_small_patch16_224', {}),
    'class token after the blocks': ('cait_xxs24_224', {'depth_token_only': 1}),
    'attention pooling': ('vit_base_patch16_siglip_224', {}),
    'pooling that takes no weights': ('vit_tiny_patch16_224', {'class_token': False, 'global_pool': 'prr'}),
}
PICTURE = np.random.default_rng(3).integers(0, 255, (32, 32, 3), np.uint8)


@pytest.fixture(params=CLASSES)
def folder(request, tmp_path):
    """A model folder of such a model with random weights, and a folder of images beside it."""
    architecture, arguments = CLASSES[request.param]
    kwargs = {**SMALL, **arguments}
    module = build_model(ModelSpec(architecture, random_seed=1, num_classes=4, model_kwargs=kwargs)).module
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save_model(tmp_path / 'model', module, {
        'architecture': architecture, 'model_kwargs': kwargs, 'class_names': ['a', 'b', 'c', 'd'],
        'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic',
                           'crop_pct': 1.0, 'crop_mode': 'center'}})
    (tmp_path / 'images').mkdir()
    for index in range(8):
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / 'images' / f'{index}.png')
    return tmp_path


def test_trained_sent_lost_and_answered(folder):
    model = str(folder / 'model')
    assert main(['train', 'recovery', '--model', model, '--data', str(folder / 'images'), '--cut', '1', '--steps', '2', '--batch-size', '8',
                 '--budget', '0.5']) == 0
    for quantisation, close in (('fp16', 2e-3), ('int8', 0.05), ('int4', 0.5), ('klt2', None)):
        edge = SplitEdge(edge_settings(model=model, cut=1, quantisation=quantisation, local_fallback=True))
        observation = edge.observe(PICTURE, UplinkState())
        rows, alone = edge.encode(observation, UplinkState()).rows, edge.answer_alone(observation)
        for recovery in ('paldn', 'omission'):
            bridge = SplitBridge(bridge_settings(model=model, cut=1, quantisation=quantisation, recovery=recovery, top_k=4))
            assert bridge.parameters == edge.parameters
            whole, half = bridge.answer_batch([received(bridge, rows, 1), received(bridge, rows, 2)])
            assert whole.recovery == 'none' and half.recovery == recovery
            if close is not None:
                np.testing.assert_allclose(whole.scores, alone[list(whole.class_ids)], atol=close)
            assert sum(half.scores) == pytest.approx(1, abs=1e-5)
            assert half.scores != whole.scores


def received(bridge: SplitBridge, rows: np.ndarray, every: int) -> ReceivedFrame:
    """A frame of which one unit in `every` has arrived, and all prefix tokens."""
    arrived = np.arange(len(rows)) % every == 0
    arrived[:bridge.parameters.prefix_tokens * bridge.parameters.groups] = True
    return ReceivedFrame(
        session_id=0, robot='', frame_id=0, capture_stamp_ns=0, source_frame='', rows=np.where(arrived[:, None], rows, 0),
        received=arrived, packets_received=1, packets_expected=2, bytes_received=0, packet_error_rate=0.5, first_arrival=0.0,
        ready_at=0.0, complete=every == 1, quantisation=bridge.parameters.quantisation, units_sent=len(rows))
