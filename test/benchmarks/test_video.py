"""Video contestants: the same losses for all, codecs and parity that do what they say, and figures that are counted rightly."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))      # it is run from the repository and not installed
pytest.importorskip('torch')
from PIL import Image

from benchmarks.link.images import natural_noise
from benchmarks.streams import video_page
from benchmarks.streams.accuracy_per_byte import Judged, coded_points
from benchmarks.streams.clips import CLIPS, NO_ANSWER, Clip, Source, standing
from benchmarks.streams.codecs import Parity, Still, Video, last_answer
from benchmarks.streams.contestants import EVITIF_CODED, NOTHING, contestants
from benchmarks.streams.evitif_split import Split
from benchmarks.streams.statistics import bytes_at, interval95
from benchmarks.streams.targets import targets_of
from benchmarks.streams.traces import LINKS, Link
from evitif.datasets import DatasetError, MovingFashion
from evitif_lab.rivals.h264 import INTRA, Coding, Decoder, Encoder, datagrams
from evitif_lab.rivals.parity import DATAGRAM_BYTES, FAILURE, failure_of
from evitif_lab.rivals.protection import Receiver, as_told, cut, datagrams_needed

CLEAN, LOSSY = Link('clean', 0.0), Link('lossy', 0.3)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """A camera that pans over a picture, before a model that ships."""
    folder = tmp_path_factory.mktemp('clip')
    picture = natural_noise((64, 96), 0)
    for number in range(16):
        Image.fromarray(picture[:, number:number + 64]).save(folder / f'{number:03d}.png')
    return Clip(Source('pan', str(folder), 30.0, 100, 'artifacts/cifar10_vit', 4, None))


def trace_of(link, clip, seed=0):
    return link.trace(seed, len(clip.frames), clip.rate_hz)


# --- losses ---

@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=30), st.sampled_from([0.1, 0.6]))
def test_who_sends_more_packets_meets_the_same_losses_and_some_more(packets, loss):
    few, many = (Link('', loss).trace(1, len(packets), 10.0).uplink for _ in range(2))
    for frame, (less, more) in enumerate(packets):
        n, m = sorted((less, more))
        assert few.lost(frame, n).tolist() == many.lost(frame, m)[:n].tolist()


def test_packets_of_one_frame_may_be_sent_one_by_one():
    link = Link('', 0.2, 8.0)
    together, alone = (link.trace(3, 5, 10.0).downlink for _ in range(2))
    for frame in range(5):
        assert together.lost(frame, 300).tolist() == [bool(alone.lost(frame)[0]) for _ in range(300)]


@pytest.mark.parametrize('link', [link for link in LINKS if link.drift is None], ids=lambda link: link.name)
def test_a_link_loses_what_it_is_said_to_lose_in_bursts_as_long(link):
    direction = link.trace(0, 400, 10.0).uplink
    lost = np.concatenate([direction.lost(frame, 100) for frame in range(400)])
    assert lost.mean() == pytest.approx(link.loss, abs=0.03 if link.burst > 1 else 0.01)
    if link.burst > 1:
        begins = int((lost[1:] & ~lost[:-1]).sum()) + int(lost[0])
        assert lost.sum() / begins == pytest.approx(link.burst, rel=0.2)


def test_a_drifting_link_is_told_by_its_mean():
    for link in LINKS:
        if link.drift is not None:
            rates = link.trace(0, 900, 100.0).rates[:600]
            assert rates.max() == pytest.approx(0.6, abs=0.01) and rates.min() < 0.06 and rates.mean() == pytest.approx(link.loss, abs=0.02)


def test_both_directions_and_other_seeds_lose_other_packets():
    trace = Link('', 0.5).trace(0, 1, 10.0)
    drawn = [trace.uplink.lost(0, 64), trace.downlink.lost(0, 64), Link('', 0.5).trace(1, 1, 10.0).uplink.lost(0, 64)]
    assert len({each.tobytes() for each in drawn}) == 3
    assert trace.again().uplink.lost(0, 64).tolist() == drawn[0].tolist()


# --- parity ---

@given(st.integers(1, 20), st.sampled_from([0.05, 0.1, 0.3, 0.6]))
def test_parity_for_independent_losses_is_that_of_the_formula(k, loss):
    n = datagrams_needed(k, loss, 1.0)
    # The table of arrivals rounds the rate to 1/512.
    assert failure_of(k, n, loss) <= 1.3 * FAILURE and failure_of(k, n - 1, loss) > 0.7 * FAILURE


@given(st.integers(40, 20_000), st.sampled_from([0.0, 0.05, 0.3, 0.6]), st.sampled_from([1.0, 8.0]))
@settings(deadline=None)
def test_small_datagrams_never_take_more_bytes(size, loss, burst):
    plain, small = (cut(size, loss, burst, choose) for choose in (False, True))
    assert small[2] <= plain[2] and small[1] >= small[0] and plain[0] <= small[0]
    assert loss or small == plain


def test_a_receiver_reports_what_it_lost_and_not_what_it_cannot_know_of():
    receiver = Receiver()
    assert receiver.take(np.array([True, True])) is None and as_told(None) == (0.1, 1.0)
    report = receiver.take(np.array([False, True, True, False, True]))
    assert report.loss == pytest.approx(4 / 6) and report.burst == 2.0
    for _ in range(60):
        report = receiver.take(np.zeros(10, bool))
    assert report.loss == 0.0 and as_told(report) == (0.0, 1.0)


# --- codecs ---

def test_slices_fit_a_datagram_and_all_of_them_make_the_picture():
    pytest.importorskip('av')
    picture = natural_noise((224, 240), 1)
    frames = [np.ascontiguousarray(picture[:, at:at + 224]) for at in range(4)]
    for chroma in (420, 444):
        encoder = Encoder(Coding(chroma, 10, 30), (224, 224), 30.0)
        units = [encoder.encode(frame) for frame in frames]
        decoder = Decoder(encoder.parameter_sets)
        for unit, frame in zip(units, frames, strict=True):
            parts = datagrams(unit)
            assert len(parts) > unit.key and max(size for _, size in parts) <= DATAGRAM_BYTES
            assert tuple(nal for nals, _ in parts for nal in nals) == unit.nals
            assert np.abs(decoder.decode(unit.nals).astype(int) - frame).mean() < 8
        assert [unit.key for unit in units] == [True, False, False, False]


def test_a_lost_slice_is_concealed_and_a_lost_frame_is_no_picture():
    pytest.importorskip('av')
    picture = natural_noise((224, 240), 2)
    frames = [np.ascontiguousarray(picture[:, at:at + 224]) for at in range(4)]
    encoder = Encoder(Coding(420, 16, 30), (224, 224), 30.0)
    units = [encoder.encode(frame, key=number == 2) for number, frame in enumerate(frames)]
    assert [unit.key for unit in units] == [True, False, True, False] and len(units[2].nals) > 2
    decoder = Decoder(encoder.parameter_sets)
    shown = [decoder.decode(nals) for nals in (units[0].nals, (), units[2].nals[1:], units[3].nals)]
    errors = [None if picture is None else np.abs(picture.astype(int) - frame).mean() for picture, frame in zip(shown, frames, strict=True)]
    assert errors[1] is None and errors[0] < 5 < errors[2] and errors[3] > 5


def test_a_key_frame_that_was_asked_for_repairs_the_picture(clip):
    pytest.importorskip('av')
    link = Link('one frame lost', 0.0, drift=lambda time: 0.999999 if 0.09 < time < 0.11 else 0.0)      # the fourth, both ways
    run = Video(Coding(444, 4, 1000), None)(clip, trace_of(link, clip))
    assert run.answers[3] == NO_ANSWER and (np.delete(run.answers, 3) != NO_ANSWER).all()
    assert run.bytes[5] > 2 * run.bytes[4] and run.bytes[6] < run.bytes[5]      # nobody hears the wish of the fourth frame
    clean = Video(Coding(444, 4, 1000), None)(clip, trace_of(CLEAN, clip))
    assert run.answers[6:].tolist() == clean.answers[6:].tolist()


@pytest.mark.parametrize('parity', [Parity(), Parity(small=True), Parity(adaptive=True, small=True), None], ids=str)
def test_without_loss_every_frame_is_answered_and_parity_costs_nothing_in_the_end(clip, parity):
    pytest.importorskip('av')
    run = Video(Coding(444, 10, INTRA), parity)(clip, trace_of(CLEAN, clip))
    assert (run.answers != NO_ANSWER).all() and run.packets[-1] == 1
    assert (run.answers == clip.answers).mean() > 0.5


def test_a_frame_behind_parity_comes_whole_or_not_at_all(clip):
    lost = Still('WEBP', 80, Parity())(clip, trace_of(Link('', 0.0, drift=lambda time: 0.5), clip))      # told that nothing is lost
    assert 0.2 < (lost.answers == NO_ANSWER).mean() < 0.8 and (lost.packets == 1).all()
    right = Still('WEBP', 80, Parity())(clip, trace_of(Link('', 0.5), clip))
    assert (right.answers != NO_ANSWER).all() and right.bytes.mean() > 5 * lost.bytes.mean()
    adapted = Still('WEBP', 80, Parity(adaptive=True))(clip, trace_of(Link('', 0.0, drift=lambda time: 0.5), clip))
    assert adapted.packets[0] == 3 and adapted.packets[-1] > 5


# --- evitif ---

def test_evitif_answers_as_the_uncut_model_where_nothing_is_lost(clip):
    run = Split({'quantisation': 'int8', 'patch_copies': 1}, {'quantisation': 'int8'})(clip, trace_of(CLEAN, clip))
    assert clip.cost(run.answers).mean() < 0.01 and (run.answers != NO_ANSWER).all()
    assert np.ptp(run.bytes) < 0.2 * run.bytes.mean() and run.packets.min() >= 24      # a PING now and then


def test_evitif_is_the_same_again_and_takes_what_it_may(clip):
    def send(room):
        return Split({'quantisation': 'auto'}, {'quantisation': 'auto'}, room)(clip, trace_of(LOSSY, clip))
    first, again, less = send(8000), send(8000), send(1500)
    assert first.answers.tolist() == again.answers.tolist() and first.bytes.tolist() == again.bytes.tolist()
    assert less.bytes.mean() < 2000 < first.bytes.mean() < 8500


def test_every_machine_can_run_the_clip_that_is_made_on_the_spot():
    source = next(source for source in CLIPS if source.name == MovingFashion.name)
    try:
        clip = Clip(source, 6)
    except (ValueError, OSError) as error:
        pytest.skip(str(error))
    tokens, patches = (Split(how, how)(clip, trace_of(CLEAN, clip)) for how in ({}, {'strategy': 'selection'}))
    for run in (tokens, patches):
        assert (run.answers != NO_ANSWER).all() and clip.cost(run.answers).mean() < 0.1
    assert tokens.bytes[1:].mean() < patches.bytes[1:].mean() < patches.bytes[0]        # the first frame refers to none


def test_where_no_answer_comes_in_time_evitif_gives_its_last_one_and_says_so(clip):
    hole = Link('nothing arrives for 0.2 s', 0.0, drift=lambda time: 0.999999 if 0.15 < time < 0.35 else 0.0)
    run = Split({'quantisation': 'int8', 'patch_copies': 1}, {'quantisation': 'int8'})(clip, trace_of(hole, clip))
    assert (run.answers != NO_ANSWER).all() and 5 <= run.repeated.sum() <= 7 and not run.repeated[:4].any() and not run.repeated[11:].any()
    assert run.answers[run.repeated].tolist() == [run.answers[4]] * int(run.repeated.sum())
    none = Split({'quantisation': 'int8', 'patch_copies': 1, 'answer_memory': 0.0}, {'quantisation': 'int8'})(clip, trace_of(hole, clip))
    assert ((none.answers == NO_ANSWER) == run.repeated).all()


def test_stills_are_judged_entropy_coded_as_edge_and_bridge_run_and_take_more_where_more_is_lost():
    try:
        MovingFashion('test')
    except DatasetError as reason:
        pytest.skip(str(reason))
    point, = coded_points(Judged('garments', 'artifacts/fashion_mnist', 3, 'fashion-mnist', 30, 30), quick=True)
    assert point['bytes']['0'] < 600 < point['bytes']['0.6'] < 6000
    assert min(point['top1'].values()) > 0.7


# --- figures ---

def test_the_last_answer_stands_until_another_comes():
    assert standing(np.array([NO_ANSWER, 3, NO_ANSWER, NO_ANSWER, 5])).tolist() == [NO_ANSWER, 3, 3, 3, 5]


def test_cost_is_what_the_uncut_model_thinks_of_the_answer(clip):
    worst = clip.probabilities.argmin(1)
    own = clip.probabilities.max(1)
    assert clip.cost(clip.answers) == pytest.approx(np.zeros(len(own)))
    assert clip.cost(np.full(len(own), NO_ANSWER)) == pytest.approx(own)
    assert (clip.cost(worst) > 0.5 * own).all()
    assert last_answer(clip, trace_of(CLEAN, clip)).answers.tolist() == [NO_ANSWER, *clip.answers[:-1]]


def test_an_interval_is_wider_where_neighbours_are_alike():
    random = np.random.default_rng(1)
    independent = random.random((1, 400)) < 0.3
    alike = np.repeat(random.random((1, 40)) < 0.3, 10, axis=1)
    widths = [np.subtract(*interval95(values.astype(float))[::-1]) for values in (independent, alike)]
    assert widths[1] > 2 * widths[0]
    low, high = interval95(independent.astype(float))
    assert low < independent.mean() < high


def test_bytes_are_interpolated_where_a_curve_crosses_the_cost():
    curve = [(1000.0, 0.08), (4000.0, 0.02), (2000.0, 0.04)]
    assert bytes_at(curve, 0.04) == pytest.approx(2000) and bytes_at(curve, 0.03) == pytest.approx(2828.4, abs=0.1)
    assert bytes_at(curve, 0.1) == 1000 and bytes_at(curve, 0.01) is None


def test_the_page_has_every_family_on_every_link_and_says_what_is_missing(tmp_path):
    def cell(link, family, variant, size, cost):
        return {'clip': 'C', 'link': link, 'family': family, 'variant': variant, 'setting': 's', 'bytes': size, 'cost': cost,
                'cost_interval95': [0.0, 1.0], 'agreement': 0.5, 'answered': 1.0}
    cells = [cell('0 %', 'A, ideal parity', 'x', 1000.0, 0.05), cell('0 %', 'A, ideal parity', 'x', 4000.0, 0.01),
             cell('0 %', 'A, ideal parity', 'y', 1500.0, 0.03), cell('30 %', 'A, ideal parity', 'x', 9000.0, 0.05),
             cell('0 %', 'B, ideal parity', '', 500.0, 0.04), cell('0 %', 'C', '', 500.0, 0.04)]
    result = {'figures': {'cells': cells, 'clips': {'C': {'frames': 9, 'rate_hz': 30.0, 'model': 'm', 'cut': 6, 'data': 'd'}}},
              'deadline_s': 0.2, 'block': 10, 'left_out': {'D': 'no frames'}, 'measured': {'runs': 5, 'of': 9}}
    for text in (video_page.section(result, tmp_path), video_page.summary(result)):
        assert '| bytes for a cost of at most 0.03 | 0 % | 30 % |\n| --- | ---: | ---: |\n' \
               '| A, ideal parity | 1,500 | – |\n| B, ideal parity | – |  |' in text
        assert 'Only a part was measured so far: 5 of 9 runs' in text
    assert 'D was left out: no frames.' in video_page.section(result, tmp_path) and '| C |' not in video_page.summary(result)
    assert 'Only some were drawn.' in video_page.section({**result, 'remark': 'Only some were drawn.'}, tmp_path)
    cells.append(cell('0 %', EVITIF_CODED, '', 700.0, 0.02))
    assert f'| --- | ---: | ---: |\n| {EVITIF_CODED} | 700 |  |\n| A, ideal parity' in video_page.summary(result)


def cell_of(link, family, size, cost, answered=1.0, variant='', clip='C'):
    return {'clip': clip, 'link': link, 'family': family, 'variant': variant, 'setting': '', 'bytes': size, 'cost': cost,
            'answered': answered}


def test_evitif_is_judged_beside_h264_at_the_costs_that_that_reaches():
    cells = [cell_of('0 %', 'evitif, PALDN', 3000.0, 0.03), cell_of('0 %', 'evitif, PALDN', 9000.0, 0.01),
             cell_of('0 %', 'H.264 4:2:0, ideal parity', 2500.0, 0.03), cell_of('0 %', 'H.264 4:4:4, ideal parity', 8000.0, 0.01)]
    judged = {entry['name']: (entry['measured'], entry['holds']) for entry in targets_of(cells)}
    assert judged == {'cost of at most 0.03, 0 % loss': ('C: 3,000', True), 'cost of at most 0.01, 0 % loss': ('C: 9,000', False),
                      'beside H.264 4:2:0, ideal parity, 0 % loss': ('C 0.03: 1.20 times', False),
                      'beside H.264 4:4:4, ideal parity, 0 % loss': ('C 0.03: 0.38 times, C 0.01: 1.12 times', True)}
    reached = [cell_of('30 %', 'evitif, PALDN', 3000.0, 0.05), cell_of('30 %', 'H.264 4:2:0, ideal parity', 9000.0, 0.03)]
    beside, = (entry for entry in targets_of(reached) if entry['name'].startswith('beside'))
    assert beside['measured'] == 'C 0.03: not reached' and not beside['holds']


def test_evitif_is_judged_in_bursts_and_drift():
    link = 'drift, so'
    cells = [cell_of(link, 'evitif, PALDN', 3000.0, 0.05), cell_of(link, 'H.264 4:2:0, adaptive parity', 3000.0, 0.06),
             cell_of(link, 'H.264 4:4:4, adaptive parity', 2000.0, 0.06)]
    drift, = targets_of(cells)
    assert drift['measured'] == 'C: 1 of 2 settings' and not drift['holds']
    cells = [cell_of('in bursts', 'evitif, PALDN', 3000.0, 0.05, 0.9995), cell_of('in bursts', NOTHING, 0.0, 0.06)]
    burst, = targets_of(cells)
    assert burst['measured'] == 'C: 100.0 %, 0.050' and burst['holds']
    cells[0]['answered'] = 0.95
    assert not targets_of(cells)[0]['holds']


def test_contestants_have_names_of_their_own():
    for quick in (True, False):
        names = [contestant.name for contestant in contestants(quick)]
        assert len(set(names)) == len(names) > 10
