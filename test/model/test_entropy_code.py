"""Entropy codes: a packet decodes alone to what its sender planned, fewer bytes where an earlier frame is known, and nothing else is
accepted."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.model.entropy_artifact import half_precision, load_entropy_code, save_entropy_code
from evitif.model.entropy_code import EntropyCode, State
from evitif.model.entropy_tables import PLAIN, STEPS
from evitif.model.errors import ArtifactError, CodeError
from evitif.model.sensitivity import LEAST, MOST, Sensitivity
from evitif_lab.training.entropy_code import fit_entropy_code

CHANNELS, PREFIX, PLACES = 12, 2, 18
ALL = np.arange(PLACES)


def tokens_of(seed, frames=200):
    """Tokens [n, N, D] whose channels hang together."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(9)) * torch.linspace(2, 0.05, CHANNELS)[:, None]
    return torch.randn(frames, PLACES, CHANNELS, generator=generator) @ mixing + torch.linspace(-1, 1, PLACES)[:, None]


def video_of(seed, paths=60, frames=3):
    """Tokens [paths, frames, N, D] that move a little from frame to frame, some of them not at all."""
    first = tokens_of(seed, paths)[:, None]
    moves = tokens_of(seed + 1, paths * frames).view(paths, frames, PLACES, CHANNELS) * (torch.arange(PLACES) % 3)[:, None] * 0.15
    moves[:, 0] = 0
    return first + moves.cumsum(1)


@pytest.fixture(scope='module')
def code():
    fisher = torch.eye(CHANNELS, dtype=torch.float64).repeat(PREFIX + 1, 1, 1) * 0.01
    between = torch.full((PLACES - PREFIX,) * 2, 0.2, dtype=torch.float64) + 0.8 * torch.eye(PLACES - PREFIX)
    return half_precision(fit_entropy_code(tokens_of(0), PREFIX, (4, 4), fisher, between, video_of(1)))


def frames_of(seed, count=3):
    return video_of(seed, 1, count)[0].numpy()


def test_a_finer_step_leaves_less_error_in_more_bytes(code):
    tokens, sizes, errors = tokens_of(7, 20).numpy(), [], []
    for step in (4, 12, 20):
        plans = [code.plan(code.quantise(each), step) for each in tokens]
        sizes.append(sum(len(code.pack(plan, ALL)) for plan in plans))
        errors.append(np.mean([np.square(code.reconstruct(plan.levels) - each) for plan, each in zip(plans, tokens, strict=True)]))
    assert sizes[0] > 1.3 * sizes[1] > 1.6 * sizes[2]
    assert 4 * errors[0] < errors[1] < errors[2] / 4
    assert errors[1] < 0.1 * tokens.var()


def test_the_expected_bits_are_those_that_are_sent(code):
    for step in (6, 12, 18):
        plans = [code.plan(code.quantise(each), step) for each in tokens_of(8, 30).numpy()]
        sent = 8 * sum(len(code.pack(plan, ALL)) for plan in plans)
        assert sum(plan.bits.sum() for plan in plans) == pytest.approx(sent, rel=0.06)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, len(STEPS) - 1), min_size=3, max_size=3), st.data())
def test_what_is_unpacked_is_what_was_planned(code, seed, steps, data):
    """Any part of a frame, at any step, alone or from any state."""
    state = None
    for frame, step in zip(frames_of(seed), steps, strict=True):
        plan = code.plan(code.quantise(frame), step, state)
        if state is not None and data.draw(st.booleans()):
            plan = code.with_common_motion(plan, code.quantise(frame), state)
        places = np.array(sorted(data.draw(st.sets(st.integers(0, PLACES - 1), min_size=1))))
        assert np.array_equal(code.unpack(code.pack(plan, places), places, step, state), plan.levels[places])
        known = np.isin(ALL, places) if state is None else state.known | np.isin(ALL, places)
        earlier = np.zeros_like(plan.levels) if state is None else state.levels
        state = State(np.where(np.isin(ALL, places)[:, None], plan.levels, earlier), known)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(0, len(STEPS) - 1), st.booleans(), st.data())
def test_parts_packed_and_unpacked_together_are_as_one_by_one(code, seed, step, referring, data):
    """Whatever tokens they have in common; one that is damaged costs no other one."""
    first, second = frames_of(seed, 2)
    state = State(code.plan(code.quantise(first), step).levels, ALL % 5 > 0) if referring else None
    plan = code.plan(code.quantise(second), step, state)
    chosen = data.draw(st.lists(st.sets(st.integers(0, PLACES - 1), min_size=1), min_size=1, max_size=6))
    parts = [np.array(sorted(places)) for places in [*chosen, chosen[0]]]
    payloads = code.pack_parts(plan, parts)
    assert payloads == [code.pack(plan, places) for places in parts]
    damaged = data.draw(st.integers(0, len(parts) - 1))
    payloads[damaged] += b'\0'
    for index, (found, places) in enumerate(zip(code.unpack_parts(payloads, parts, step, state), parts, strict=True)):
        assert isinstance(found, CodeError) if index == damaged else np.array_equal(found, plan.levels[places])


def test_a_known_frame_saves_bytes_and_what_did_not_move_is_not_sent(code):
    alone = after = unmoved = 0
    for seed in range(20):
        first, second = frames_of(100 + seed, 2)
        state = State(code.plan(code.quantise(first), 10).levels, np.ones(PLACES, bool))
        alone += len(code.pack(code.plan(code.quantise(second), 10), ALL))
        plan = code.plan(code.quantise(second), 10, state)
        after += len(code.pack(plan, ALL))
        still = np.flatnonzero(plan.modes == code.unmoved)
        unmoved += len(still)
        assert np.array_equal(plan.levels[still], state.levels[still])
    assert after < 0.8 * alone
    assert unmoved > 20 * PLACES / 5


def test_errors_do_not_grow_from_frame_to_frame(code):
    first, second = tokens_of(50, 2).numpy() - code.mean
    state, errors = None, []
    for frame in (code.mean + np.cos(0.1 * time) * first + np.sin(0.1 * time) * second for time in range(60)):
        plan = code.plan(code.quantise(frame), 10, state)
        state = State(plan.levels, np.ones(PLACES, bool))
        errors.append(float(np.square(code.reconstruct(plan.levels) - frame).mean()))
    assert np.mean(errors[-20:]) < 1.5 * np.mean(errors[10:30])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(-3, 40), st.booleans(), st.sets(st.integers(0, PLACES - 1), min_size=1))
def test_any_bytes_become_levels_or_are_refused(code, data, step, referring, places):
    state = State(np.full((PLACES, code.coefficients), 32767, np.int16), ALL % 2 == 0) if referring else None
    places = np.array(sorted(places))
    try:
        levels = code.unpack(data, places, step, state)
    except CodeError as error:
        assert '\n' not in str(error)
        return
    assert levels.dtype == np.int16 and levels.shape == (len(places), code.coefficients)
    assert np.isfinite(code.reconstruct(np.broadcast_to(levels[:1], (PLACES, code.coefficients)))).all()


def test_damaged_bytes_are_refused(code):
    payload = code.pack(code.plan(code.quantise(tokens_of(3, 1)[0].numpy()), 8), ALL)
    refused = 0
    for at in range(0, len(payload), 3):
        try:
            code.unpack(payload[:at] + bytes([payload[at] ^ 4]) + payload[at + 1:], ALL, 8)
        except CodeError:
            refused += 1
    assert refused > 0.6 * len(range(0, len(payload), 3))       # the seal finds the others
    for damaged in (payload[:-5], payload + b'\1'):
        with pytest.raises(CodeError):
            code.unpack(damaged, ALL, 8)


def sensitive(code):
    """The code for a tail that looks at the first patches most."""
    return code.with_sensitivity(Sensitivity(np.linspace(3, -3, PLACES - PREFIX).astype(np.float32), np.zeros(5, np.float32)))


def test_patches_that_the_answer_depends_on_are_coded_more_finely_than_others(code):
    errors, bits = [], []
    for each in (code, sensitive(code)):
        missed, taken = [], []
        for tokens in tokens_of(11, 40).numpy():
            levels = each.quantise(tokens)
            plan = each.plan(levels, 14)
            assert np.array_equal(code.unpack(each.pack(plan, ALL), ALL, 14), plan.levels)       # who reads it need not know
            missed.append(np.square(plan.levels[PREFIX:].astype(float) - levels[PREFIX:]).sum(1))
            taken.append(plan.bits[PREFIX:])
        errors.append(np.mean(missed, 0))
        bits.append(np.mean(taken, 0))
    assert errors[1][:4].mean() < 0.9 * errors[0][:4].mean() and errors[1][-4:].mean() > 1.3 * errors[0][-4:].mean()
    assert bits[1][-4:].mean() < 0.9 * bits[0][-4:].mean() and bits[1][:4].mean() < 1.2 * bits[0][:4].mean()


@given(st.integers(0, 1000))
def test_weights_are_limited_and_about_one_on_average(seed):
    generator = np.random.default_rng(seed)
    weights = Sensitivity(generator.normal(0, 2, 16), generator.normal(0, 1, 5)).weights(generator.integers(-32767, 32767, (16, 12)))
    assert weights.min() >= LEAST and weights.max() <= MOST and np.isfinite(weights).all() and weights.mean() < 2


def test_each_patch_says_how_fine_its_step_is_and_nothing_where_all_are_alike(code):
    levels = code.quantise(tokens_of(12, 1).numpy()[0])
    plain, unlike = code.plan(levels, 14), sensitive(code).plan(levels, 14)
    finenesses = unlike.modes[PREFIX:] // len(code.tables.base)
    assert (finenesses[:3] < PLAIN).all() and (finenesses[-3:] > PLAIN).all() and (plain.modes == PLAIN * len(code.tables.base)).all()
    state = State(plain.levels, np.arange(PLACES) % 3 > 0)
    for places in (ALL, ALL[:PREFIX], ALL[PREFIX:PREFIX + 1]):
        for plan, known in ((unlike, None), (sensitive(code).plan(levels // 2, 12, state), state)):
            assert np.array_equal(code.unpack(code.pack(plan, places), places, plan.step, known), plan.levels[places])


def test_a_sensitivity_is_stored_and_is_no_part_of_what_both_sides_agree_on(code, tmp_path):
    path = tmp_path / 'entropy-cut1.json'
    save_entropy_code(path, sensitive(code), {'model': 'small', 'fingerprint': 'ab' * 32, 'cut': 1})
    loaded, said = load_entropy_code(path, 'ab' * 32)
    assert loaded.digest == said['digest'] == code.digest and loaded.agreement == code.agreement != code.digest
    assert np.array_equal(loaded.sensitivity.places, sensitive(code).sensitivity.places) and len(loaded.sensitivity.slopes) == 5
    for wrong in (Sensitivity(np.zeros(3), np.zeros(5)), Sensitivity(np.zeros(PLACES - PREFIX), np.zeros(99))):
        with pytest.raises(ValueError, match='expected 16, and at most 13'):
            code.with_sensitivity(wrong)


def test_tokens_that_are_held_stay_as_they_were(code):
    first, second = frames_of(60, 2)
    state = State(code.plan(code.quantise(first), 10).levels, np.ones(PLACES, bool))
    plan = code.hold(code.plan(code.quantise(second), 10, state), state, np.array([3, 7]))
    read = code.unpack(code.pack(plan, ALL), ALL, 10, state)
    assert np.array_equal(read, plan.levels) and np.array_equal(read[[3, 7]], state.levels[[3, 7]])


def test_wild_tokens_are_coded_as_well_as_levels_can_hold_them(code):
    wild = tokens_of(4, 1)[0].numpy() * 1e4
    plan = code.plan(code.quantise(wild), 20)
    assert np.array_equal(code.unpack(code.pack(plan, ALL), ALL, 20), plan.levels)
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match='not finite'):
            code.quantise(np.full_like(wild, value))
    with pytest.raises(ValueError, match='expected tokens of shape'):
        code.quantise(wild[1:])


def test_a_saved_code_is_the_same_and_another_models_is_refused(code, tmp_path):
    path = tmp_path / 'entropy-cut1.json'
    description = {'model': 'small', 'fingerprint': 'ab' * 32, 'cut': 1}
    save_entropy_code(path, code, description)
    loaded, said = load_entropy_code(path, 'ab' * 32)
    assert loaded.digest == code.digest == said['digest']
    for name, array in code.arrays().items():
        assert np.array_equal(array, loaded.arrays()[name]), name
    with pytest.raises(ArtifactError, match='was made for the model'):
        load_entropy_code(path, 'cd' * 32)
    other = {**code.arrays(), 'centres': code.tables.centres + np.int8(1)}
    save_entropy_code(path, EntropyCode.from_arrays(other), description)
    path.write_text(json.dumps({**said}))
    with pytest.raises(ArtifactError, match='is not the one'):
        load_entropy_code(path, 'ab' * 32)


@pytest.mark.parametrize('name', ['base', 'factors', 'frequencies', 'centres', 'expected', 'shifts', 'analysis', 'synthesis', 'kernel'])
def test_arrays_that_do_not_fit_are_refused(code, name):
    arrays = code.arrays()
    with pytest.raises(ValueError, match='expected'):
        EntropyCode.from_arrays({**arrays, name: arrays[name][:-1]})
    with pytest.raises(ValueError, match=name):
        EntropyCode.from_arrays({key: array for key, array in arrays.items() if key != name})
