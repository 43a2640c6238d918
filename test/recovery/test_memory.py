"""What the bridge remembers of a stream, for how long, and what recovery makes of it."""

import numpy as np
import pytest
import torch

from evitif.recovery import LinearCompletion, Memories, Memory, Paldn, Sequence, StreamMemory
from evitif.recovery.memory import motion_of, trust_of
from evitif.recovery.methods import LastKnown, Omission
from evitif_lab.trials.closed_form import chance_of, fit_closed_form

GRID, CHANNELS = (4, 4), 24
TOKENS = 17
SEQUENCE = Sequence(GRID, 1, CHANNELS)
SECOND = 1_000_000_000


def scene(seed: int) -> torch.Tensor:
    return torch.randn(TOKENS, CHANNELS, generator=torch.Generator().manual_seed(seed))


def changed(tokens: torch.Tensor, correlation: float, seed: int = 99) -> torch.Tensor:
    return correlation * tokens + (1 - correlation**2)**0.5 * scene(seed)


def stream(limit_s: float = 2.0) -> StreamMemory:
    return StreamMemory(torch.zeros(TOKENS, CHANNELS), torch.ones(CHANNELS), 1, limit_s)


def places(*lost: int) -> torch.Tensor:
    received = torch.ones(TOKENS, dtype=torch.bool)
    received[list(lost)] = False
    return received


def test_the_last_known_token_of_each_place_is_remembered_with_its_age():
    memory = stream()
    assert memory.see(scene(1), places(3, 4), SECOND) is None
    later = changed(scene(1), 0.95)
    assert memory.see(later, places(4, 5), SECOND + SECOND // 10) is not None
    found = memory.see(changed(scene(1), 0.9), places(*range(1, 9)), SECOND + SECOND // 2)
    assert found.age_s[0, [2, 3, 5]].tolist() == pytest.approx([0.4, 0.4, 0.5])
    assert torch.equal(found.tokens[0, 3], later[3])
    assert torch.equal(found.tokens[0, 5], scene(1)[5])
    assert found.known[0].tolist() == [place != 4 for place in range(TOKENS)]
    assert found.trust[0, 4] == 0


def test_trust_follows_what_the_received_tokens_show_of_the_motion():
    slow, fast = stream(), stream()
    for memory, correlation in ((slow, 0.99), (fast, 0.6)):
        tokens = scene(1)
        for number in range(6):
            found = memory.see(tokens, places(2), SECOND + number * SECOND // 10)
            tokens = changed(tokens, correlation, 100 + number)
        assert found.trust[0, 1] == pytest.approx(correlation, abs=0.12)
    assert slow.motion < fast.motion


def test_motion_and_trust_are_inverse_and_trust_falls_with_age():
    assert trust_of(torch.tensor([0.2]), motion_of(0.8, 0.2)).item() == pytest.approx(0.8)
    ages = torch.tensor([0.0, 0.1, 0.5, 1.0, torch.inf])
    trust = trust_of(ages, 1.0)
    assert trust[0] == 1 and trust[-1] == 0
    assert (trust.diff() < 0).all()


@pytest.mark.parametrize('stamp, source', [(SECOND, 'camera'), (SECOND // 2, 'camera'), (4 * SECOND, 'camera'), (SECOND + 1, 'other')],
                         ids=['the same stamp', 'an older one', 'after a gap', 'another camera'])
def test_what_is_not_of_the_same_stream_s_present_is_forgotten(stamp, source):
    memory = stream()
    memory.see(scene(1), places(), SECOND, 'camera')
    assert memory.see(scene(1), places(3), stamp, source) is None


def test_a_scene_change_shows_in_the_tokens_that_arrive():
    for lost in (places(3), places(*range(1, 10))):
        memory = stream()
        memory.see(scene(1), places(), SECOND)
        assert memory.see(scene(2), lost, SECOND + SECOND // 30) is None
        assert memory.see(changed(scene(2), 0.95), lost, SECOND + SECOND // 15) is not None       # the new scene is remembered


def test_what_unrelated_images_have_in_common_is_measured_and_no_scene():
    alike = scene(50)                   # as pictures of one kind of thing have
    images = torch.stack([changed(alike, 0.8, number) for number in range(60)])
    chance = chance_of(images[:, 1:])
    assert 0.6 < chance < 0.9 and chance_of(torch.randn(60, TOKENS - 1, CHANNELS)) == pytest.approx(0.2)
    for limit, kept in ((chance, False), (0.2, True)):
        memory = StreamMemory(torch.zeros(TOKENS, CHANNELS), torch.ones(CHANNELS), 1, 2.0, limit)
        memory.motion = 0.01            # the scene stood, so far
        memory.see(images[0], places(), SECOND)
        assert (memory.see(images[1], places(3), SECOND + SECOND // 30) is not None) == kept


def test_without_the_mean_image_a_change_shows_too():
    common = 5 * torch.randn(CHANNELS)
    memory = StreamMemory(torch.zeros(TOKENS, CHANNELS), torch.ones(CHANNELS), 1, 2.0, None)
    memory.see(scene(1) + common, places(), SECOND)
    assert memory.see(changed(scene(1), 0.9) + common, places(3), SECOND + SECOND // 30) is not None
    assert memory.see(scene(2) + common, places(3), SECOND + SECOND // 15) is None


def test_old_tokens_are_forgotten_one_by_one():
    memory = stream(limit_s=0.5)
    memory.see(scene(1), places(), SECOND)
    memory.see(scene(1), places(3), SECOND + SECOND * 4 // 10)
    found = memory.see(scene(1), places(3, 5), SECOND + SECOND * 8 // 10)
    assert not found.known[0, 3] and found.known[0, 5]


def test_the_memories_of_sessions_are_apart_bounded_and_end_with_them():
    memories = Memories(2, torch.zeros(TOKENS, CHANNELS), torch.ones(CHANNELS), 1, 2.0)
    first = memories.of(1)
    first.see(scene(1), places(), SECOND)
    assert memories.of(2).see(scene(1), places(3), 2 * SECOND) is None
    assert memories.of(1) is first
    memories.of(3)                      # 2 was used longest ago
    assert len(memories) == 2 and memories.of(1) is first
    memories.forget(1)
    memories.forget(77)
    assert memories.of(1) is not first


def memory_of(tokens: torch.Tensor, trust: torch.Tensor) -> Memory:
    return Memory(tokens, torch.where(trust > 0, 0.1, torch.inf), trust)


def fitted(kind, **options):
    torch.manual_seed(0)
    network = kind(SEQUENCE, **options)
    smooth = torch.linalg.cholesky(torch.exp(-torch.cdist(coordinates(), coordinates()) / 2) + 1e-4 * torch.eye(TOKENS))
    fit_closed_form(network, smooth @ torch.randn(300, TOKENS, CHANNELS))
    return network.eval(), smooth


def coordinates() -> torch.Tensor:
    return torch.cat((torch.tensor([[1.5, 1.5]]), torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))))


def test_kriging_in_space_and_time_is_better_than_either_alone():
    network, smooth = fitted(LinearCompletion)
    network.NUGGET = 0.0                # here the innovations are as smooth as the field
    generator = torch.Generator().manual_seed(1)
    before, new = (smooth @ torch.randn(200, TOKENS, CHANNELS, generator=generator) for _ in range(2))
    now = 0.9 * before + (1 - 0.81)**0.5 * new
    received = torch.rand(200, TOKENS, generator=generator) > 0.5
    memory = memory_of(before, torch.full((200, TOKENS), 0.9))

    def error(estimate: torch.Tensor) -> float:
        return float((estimate - now)[~received].square().mean())
    both = error(network.recover(now, received, torch.zeros(200), memory).tokens)
    assert both < 0.8 * error(network.recover(now, received, torch.zeros(200)).tokens)
    assert both < 0.8 * error(torch.where(received[:, :, None], now, before))


def test_a_memory_of_nothing_changes_nothing():
    for kind, options in ((LinearCompletion, {}), (Paldn, {'width': 16, 'heads': 2}), (LastKnown, None)):
        network = LastKnown(torch.zeros(TOKENS, CHANNELS), 1, GRID) if options is None else fitted(kind, **options)[0]
        tokens, received = torch.randn(1, TOKENS, CHANNELS), places(2, 3, 9)[None]
        nothing = memory_of(torch.randn(1, TOKENS, CHANNELS), torch.zeros(1, TOKENS))
        with_it, without = network.recover(tokens, received, torch.zeros(1), nothing), network.recover(tokens, received, torch.zeros(1))
        torch.testing.assert_close(with_it.tokens, without.tokens, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize('known', [[], [3, 4], list(range(TOKENS))])
@pytest.mark.parametrize('lost', [[2], [3, 4, 5], list(range(1, TOKENS)), list(range(TOKENS))])
@pytest.mark.parametrize('remembers', [True, False])
def test_a_frame_with_a_memory_is_recovered_alone_as_in_a_batch(known, lost, remembers):
    network, _ = fitted(Paldn, width=16, heads=2, memory=remembers)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    tokens, before, received = torch.randn(2, TOKENS, CHANNELS), torch.randn(2, TOKENS, CHANNELS), places(*lost).expand(2, -1)
    trust = torch.zeros(2, TOKENS)
    trust[:, known] = 0.3 + 0.6 * torch.rand(2, len(known))
    rates = torch.tensor([0.4, 0.7])
    batch = network.recover(tokens, received, rates, memory_of(before, trust))
    for index in range(2):
        one = slice(index, index + 1)
        alone = network.recover(tokens[one], received[one], rates[one], memory_of(before[one], trust[one]))
        torch.testing.assert_close(alone.tokens[0], batch.tokens[index], atol=2e-4, rtol=1e-3)
        assert torch.equal(alone.tokens[0, received[index]], tokens[index, received[index]])
        assert (alone.key_bias is None) == (batch.key_bias is None)
        if batch.key_bias is not None:
            torch.testing.assert_close(alone.key_bias[0], batch.key_bias[index], atol=2e-4, rtol=1e-3)


def test_a_paldn_that_learns_to_remember_stays_as_it_was_without_a_memory():
    network, _ = fitted(Paldn, width=16, heads=2)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    more = network.learn_to_remember().eval()
    assert more.options['memory'] and not network.options['memory']
    for parameter in more.moving.parameters():
        parameter.data.add_(0.1)
    tokens, received = torch.randn(3, TOKENS, CHANNELS), places(2, 3, 9).expand(3, -1)
    first, second = (one.recover(tokens, received, torch.full((3,), 0.5)) for one in (network, more))
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.key_bias, second.key_bias)


def test_last_known_tokens_stand_in_and_the_others_are_left_out():
    method = LastKnown(torch.zeros(TOKENS, CHANNELS), 1, GRID)
    tokens, before, received = torch.randn(1, TOKENS, CHANNELS), torch.randn(1, TOKENS, CHANNELS), places(2, 3, 9)[None]
    trust = torch.ones(1, TOKENS)
    trust[0, 3] = 0
    recovered = method.recover(tokens, received, torch.zeros(1), memory_of(before, trust))
    assert recovered.kept[0].tolist() == [place for place in range(TOKENS) if place != 3]
    assert torch.equal(recovered.tokens[0, [2, 9]], before[0, [2, 9]])
    without = Omission(torch.zeros(TOKENS, CHANNELS), 1, GRID).recover(tokens, received, torch.zeros(1))
    assert np.array_equal(method.recover(tokens, received, torch.zeros(1)).kept, without.kept)


# --- a memory that follows the picture ---

WIDE = (12, 16)


def panorama(seed: int = 3) -> torch.Tensor:
    """Tokens [CHANNELS, 24, 40] of a wide picture, alike in neighbouring places as tokens of pictures are."""
    small = torch.randn(1, CHANNELS, 9, 14, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (24, 40), mode='bicubic', align_corners=True)[0]


def view(panorama: torch.Tensor, row: float, column: float) -> torch.Tensor:
    """What is seen of it from there on: a class token and a grid WIDE of tokens."""
    rows, columns = torch.meshgrid((torch.arange(WIDE[0]) + row) / 23 * 2 - 1, (torch.arange(WIDE[1]) + column) / 39 * 2 - 1, indexing='ij')
    seen = torch.nn.functional.grid_sample(panorama[None], torch.stack((columns, rows), -1)[None], align_corners=True)[0]
    return torch.cat((torch.zeros(1, CHANNELS), seen.flatten(1).T))


def remembered(grid, move: float, loss: float = 0.6, frames: int = 12) -> tuple[float, StreamMemory]:
    """How much a memory is like what was lost of a picture that pans by `move` patches a frame: the mean correlation."""
    tokens = 1 + WIDE[0] * WIDE[1]
    stream = StreamMemory(torch.zeros(tokens, CHANNELS), torch.ones(CHANNELS), 1, 2.0, grid=grid)
    generator, wide, found = torch.Generator().manual_seed(0), panorama(), []
    for frame in range(frames):
        now, received = view(wide, 2 + 0.3 * move * frame, 2 + move * frame), torch.rand(tokens, generator=generator) >= loss
        memory = stream.see(now, received, SECOND + frame * SECOND // 15)
        if frame > 3:
            lost = ~received & memory.known[0]
            a, b = now[lost], memory.tokens[0][lost]
            found.append(float((a * b).sum() / (a.norm() * b.norm())))
    return float(np.mean(found)), stream


@pytest.mark.parametrize('loss', [0.3, 0.6, 0.8])
def test_a_memory_that_follows_the_picture_is_more_like_what_was_lost(loss):
    (plain, _), (following, stream) = remembered(None, 0.6, loss), remembered(WIDE, 0.6, loss)
    assert following > 0.9 and 1 - following < 0.5 * (1 - plain)
    assert stream.motion < 1.0          # what is left of it, once the picture's own motion is followed


def test_a_picture_that_stands_is_remembered_as_it_is():
    correlation, _ = remembered(WIDE, 0.0)
    assert correlation == pytest.approx(1.0, abs=1e-5)


def test_without_a_motion_that_is_seen_nothing_is_moved():
    tokens = 1 + WIDE[0] * WIDE[1]
    stream = StreamMemory(torch.zeros(tokens, CHANNELS), torch.ones(CHANNELS), 1, 2.0, grid=WIDE)
    first = view(panorama(), 2, 2)
    stream.see(first, torch.ones(tokens, dtype=torch.bool), SECOND)
    few = torch.zeros(tokens, dtype=torch.bool)
    few[:8] = True
    memory = stream.see(view(panorama(), 2, 4), few, SECOND + SECOND // 15)
    assert torch.equal(memory.tokens[0], first)
