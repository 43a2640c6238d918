"""The transport's part: what is judged of it, and that the protocol alone is measured on whole frames."""

import sys
from pathlib import Path

import pytest

pytest.importorskip('torch')
sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks.link import transport
from benchmarks.link.transport_side import WAYS, frame_of, parameters_of, protocol_cost

COST = {'packetise_us': 80.0, 'reassemble_us': 400.0, 'datagrams': 49}
PROTOCOL = {'ViT-Tiny': COST | {'after_pause': COST}}


def cells(of_bare, of_tcp, of_unsealed, cpu):
    def way(*ratios):
        return {name: {'median': value, 'quartiles': [value, value]}
                for name, value in zip(('us', 'of_bare', 'of_tcp', 'of_unsealed'), (100.0, *ratios), strict=True)}
    ways = dict.fromkeys(WAYS, way(1.0, 1.0, 1.0)) | {'evitif, unsealed': way(of_bare, of_tcp, 1.0),
                                                      'evitif, unsealed, unpaced': way(of_bare, of_tcp, 1.0),
                                                      'evitif, sealed': way(1.0, 1.0, of_unsealed)}
    return {'ViT-Tiny': {'packets': {'ways': ways, 'cpu': dict.fromkeys(WAYS, {'robot': cpu, 'bridge': 0.01})}}}


@pytest.mark.parametrize(('figures', 'verdicts'), [
    ((1.3, 1.0, 1.1, 0.09), [True] * 6),
    ((1.31, 1.01, 1.11, 0.1), [False] * 6),
])
def test_targets_are_judged_by_the_ratios_side_by_side(figures, verdicts):
    judged = transport.targets_of(cells(*figures), PROTOCOL)
    assert [entry['holds'] for entry in judged] == verdicts
    assert bool(judged[0]['note']) is not verdicts[0]      # what is not reached has its reason


def test_the_protocol_alone_is_measured_on_whole_frames():
    cost = protocol_cost(192, frames=3)
    assert cost['datagrams'] >= 32 and cost['packetise_us'] > 0 and cost['reassemble_us'] > 0


def test_the_frame_is_that_of_a_vit_at_224():
    parameters = parameters_of(192)
    assert frame_of(parameters).rows.nbytes == 197 * 196 and parameters.grid == (14, 14)


@pytest.mark.timeout(120)
def test_every_way_carries_frames_over_loopback():
    from tqdm import tqdm
    found = transport.measure(transport.LOOPBACK, 192, rounds=1, cpu_frames=2, bar=tqdm(disable=True))
    for way in WAYS:
        assert found['ways'][way]['us']['median'] > 0
        assert found['cpu'][way]['robot'] > 0
