"""What attention over a clip's moments must hold to: nothing at first, whole clips and no others, order, any size."""

from __future__ import annotations

import pytest
import torch
from tiny import build, words

from models.space_time import CELLS, SpaceTime, grid_of

SHAPES = ((6, 8), (3, 4), (2, 2), (1, 1))
TOKENS = sum(h * w for h, w in SHAPES)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def opened(module):
    with torch.no_grad():
        module.say.weight.copy_(noise(*module.say.weight.shape, seed=5) * 0.3)
    return module.eval()


@pytest.fixture
def module():
    torch.manual_seed(0)
    return opened(SpaceTime(32, 4))


def no_padding(rows):
    return torch.zeros(rows, TOKENS, dtype=torch.bool)


def test_it_starts_as_nothing():
    tokens = noise(6, TOKENS, 32)
    assert torch.equal(SpaceTime(32, 4)(tokens, SHAPES, no_padding(6), torch.tensor([[0.0, 1.0, 2.0]])), tokens)


@torch.no_grad()
def test_every_moment_of_a_clip_counts_and_no_other_clip_or_sentence(module):
    """N = 2 videos x 2 sentences x 3 frames: changing one frame changes its own sentence's clip, everywhere."""
    times = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.5, 4.0]])
    tokens = noise(12, TOKENS, 32)
    before = module(tokens, SHAPES, no_padding(12), times)
    changed = tokens.clone()
    changed[4] = noise(TOKENS, 32, seed=8)  # video 0, sentence 1, frame 1
    differs = (module(changed, SHAPES, no_padding(12), times) - before).abs().amax((1, 2)) > 1e-5
    assert differs.tolist() == [False] * 3 + [True] * 3 + [False] * 6
    alone = module(tokens[6:], SHAPES, no_padding(6), times[1:])
    torch.testing.assert_close(before[6:], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_order_and_speed_count(module):
    tokens, times = noise(3, TOKENS, 32), torch.tensor([[0.0, 1.0, 2.0]])
    forward = module(tokens, SHAPES, no_padding(3), times)
    backward = module(tokens.flip(0), SHAPES, no_padding(3), times).flip(0)
    slower = module(tokens, SHAPES, no_padding(3), times * 2)
    assert (forward - backward).abs().max() > 1e-3
    assert (forward - slower).abs().max() > 1e-3


@torch.no_grad()
def test_when_a_clip_begins_does_not_count(module):
    tokens, times = noise(3, TOKENS, 32), torch.tensor([[0.0, 1.0, 2.0]])
    later = module(tokens, SHAPES, no_padding(3), times + 7)
    torch.testing.assert_close(later, module(tokens, SHAPES, no_padding(3), times), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_what_stands_in_padding_does_not_count(module):
    padding = no_padding(2)
    padding[:, 40:48] = True
    tokens, times = noise(2, TOKENS, 32), torch.tensor([[0.0, 1.0]])
    other = torch.where(padding[..., None], 9.0, tokens)
    a, b = (module(x, SHAPES, padding, times) for x in (tokens, other))
    torch.testing.assert_close(a[~padding], b[~padding])


@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (8, 14), (45, 80), (80, 45), (3, 200), (200, 3)])
def test_the_grid_is_bounded_whatever_the_frame(shape):
    rows, columns = grid_of(shape)
    assert 1 <= rows <= shape[0] and 1 <= columns <= shape[1]
    assert rows * columns <= max(CELLS, 200)
    if min(shape) >= 4 and shape[0] * shape[1] >= CELLS:
        assert rows * columns > CELLS / 2
        assert abs(rows / columns * shape[1] / shape[0] - 1) < 0.35


@torch.no_grad()
def test_without_it_the_network_is_the_one_without():
    with_it, without = build(space_time=True), build()
    with_it.space_time.say.weight.zero_()
    with_it.space_time.say.bias.zero_()
    without.load_state_dict({k: v for k, v in with_it.state_dict().items() if not k.startswith("space_time.")})
    clip, text = noise(1, 3, 3, 64, 96), words(without, 1, 2)
    a, b = (network(network.encode_video(clip), text) for network in (with_it, without))
    assert torch.equal(a.masks_BETQhw, b.masks_BETQhw)
    assert torch.equal(a.logits_BETQK, b.logits_BETQK)


@torch.no_grad()
def test_answering_some_frames_is_answering_all_and_taking_those():
    """Up to the pixel decoder, which attends over the frames that it is given."""
    model = build(space_time=True, motion=True, grounding=True)
    clips, text = noise(2, 4, 3, 64, 96), words(model, 2, 3)
    video, chosen = model.encode_video(clips), torch.tensor([[1, 2], [0, 3]])
    some, every = model.encode_expressions(video, text, chosen), model.encode_expressions(video, text)
    wanted = every.gather_frames(chosen)
    torch.testing.assert_close(some.memory_NSC, wanted.memory_NSC, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(some.grounding.logits_NS, wanted.grounding.logits_NS, atol=1e-5, rtol=1e-4)
    assert torch.equal(some.times_BT, wanted.times_BT)
    assert model.decode(some).logits_BETQK.shape[:3] == (2, 3, 2)
