"""Carrying a mask: it goes where its picture went, the nearer look-alike is meant, padding and empty rows stay out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny import build, words

from models.matching import CELLS, WIDTH, Matching, reference_masks
from util.types import ReferenceMasks

INSIDE = torch.ones(1, 16, 28, dtype=torch.bool)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def module():
    """Compares features as they are."""
    matching = Matching(WIDTH)
    with torch.no_grad():
        matching.describe.weight.copy_(torch.eye(WIDTH)[..., None, None])
        matching.describe.bias.zero_()
        matching.sharpness.fill_(40.0)
    return matching


def square(top, left, size=4):
    mask = torch.zeros(1, 16, 28)
    mask[:, top : top + size, left : left + size] = 1
    return mask


def reference(picture, mask, seconds=0.0):
    return ReferenceMasks(picture, mask, torch.tensor([seconds]))


@torch.no_grad()
@pytest.mark.parametrize("step", [(0, 3), (-2, 1), (0, 0)])
def test_a_mask_goes_where_its_picture_went(module, step):
    picture = noise(1, WIDTH, 16, 28)
    now = picture.roll(step, (2, 3))
    carried = module.carry(now, torch.tensor([1.0]), reference(picture, square(6, 10)), INSIDE)
    wanted = square(6 + step[0], 10 + step[1])
    assert ((carried.coverage_Nhw > 0.5) == (wanted > 0.5)).all()
    assert ((carried.logits_Nhw > 0) == (wanted > 0.5)).all()


@torch.no_grad()
def test_of_two_that_look_alike_the_near_one_is_meant(module):
    """Two equal things have swapped nothing: each is where it was, and only the left one was covered."""
    thing, ground = noise(WIDTH, 4, 4), noise(WIDTH, 1, 1, seed=1)
    picture = ground.expand(WIDTH, 16, 28).clone()[None]
    picture[0, :, 6:10, 4:8] = thing
    picture[0, :, 6:10, 20:24] = thing
    near = module.carry(picture, torch.tensor([0.1]), reference(picture, square(6, 4)), INSIDE).coverage_Nhw
    assert near[0, 6:10, 4:8].min() > 0.95
    assert near[0, 6:10, 20:24].max() < 0.05
    module.reach.fill_(3.0)  # e^3 frame heights: place says nothing any more
    far = module.carry(picture, torch.tensor([0.1]), reference(picture, square(6, 4)), INSIDE).coverage_Nhw
    torch.testing.assert_close(far[0, 6:10, 4:8], torch.full((4, 4), 0.5), atol=0.02, rtol=0)


@torch.no_grad()
def test_more_time_allows_a_longer_way(module):
    """The thing is far from where it was, and something that looks a little like it is near."""
    thing, ground = noise(WIDTH, 4, 4), noise(WIDTH, 1, 1, seed=1)
    before = ground.expand(WIDTH, 16, 28).clone()[None]
    now = before.clone()
    before[0, :, 6:10, 2:6] = thing
    now[0, :, 6:10, 18:22] = thing
    found = [
        module.carry(now, torch.tensor([seconds]), reference(before, square(6, 2)), INSIDE).coverage_Nhw
        for seconds in (0.1, 6.0)
    ]
    assert found[0][0, 6:10, 18:22].mean() < 0.1
    assert found[1][0, 6:10, 18:22].mean() > 0.9


@torch.no_grad()
def test_nothing_is_found_in_padding(module):
    """Cells outside the frame look like the thing and count as covered; none of it may be carried."""
    thing = noise(WIDTH, 1, 1)
    picture = noise(1, WIDTH, 16, 28, seed=1)
    picture[0, :, :, 20:] = thing
    picture[0, :, 6:10, 16:20] = thing
    inside = INSIDE.clone()
    inside[..., 20:] = False
    mask = torch.zeros(1, 16, 28)
    mask[..., 20:] = 1
    carried = module.carry(picture, torch.tensor([1.0]), reference(picture, mask), inside)
    assert carried.coverage_Nhw[0, :, :20].max() == 0
    assert torch.isfinite(carried.logits_Nhw).all()


@torch.no_grad()
def test_large_frames_are_compared_on_a_coarser_grid(module, monkeypatch):
    compared = []
    attention = torch.nn.functional.scaled_dot_product_attention
    watched = lambda q, k, v, **more: compared.append((q.shape[-2], k.shape[-2])) or attention(q, k, v, **more)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    picture = torch.nn.functional.interpolate(noise(1, WIDTH, 15, 20), (90, 120), mode="bilinear")
    mask = torch.zeros(1, 90, 120)
    mask[:, 30:60, 42:72] = 1
    assert CELLS < 90 * 120
    inside = torch.ones(1, 90, 120, dtype=torch.bool)
    now = picture.roll(12, 3)
    carried = module.carry(now, torch.tensor([1.0]), reference(picture, mask), inside).coverage_Nhw
    wanted = mask.roll(12, 2) > 0.5
    found = carried > 0.5
    assert carried.shape == (1, 90, 120) and compared == [(39 * 52, 39 * 52)] and CELLS >= 39 * 52
    assert (found & wanted).sum() / (found | wanted).sum() > 0.85


def test_attention_is_by_likeness_and_distance(module):
    """The same as with every pair written out: sharpness * cosine - (distance / reach)^2 / 2."""
    now, past = noise(2, WIDTH, 4, 6, seed=1), noise(2, WIDTH, 4, 6, seed=2)
    masks = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(4))
    times, before = torch.tensor([2.0, 5.0]), torch.tensor([1.0, 5.5])
    inside = torch.ones(2, 4, 6, dtype=torch.bool)
    inside[1, :, 5:] = False
    with torch.no_grad():
        module.sharpness.fill_(3.0)
        module.speed.fill_(math.log(0.3))
        found = module.carry(now, times, ReferenceMasks(past, masks, before), inside).coverage_Nhw
    y, x = torch.arange(4) / 4, torch.arange(6) / 4
    for n, row, column in [(0, 0, 0), (0, 2, 5), (1, 3, 1)]:
        cosine = torch.cosine_similarity(now[n, :, row, column, None, None], past[n], dim=0)
        squared = (y[:, None] - y[row]) ** 2 + (x - x[column]) ** 2
        reach = 0.05 + 0.3 * (times[n] - before[n]).abs()
        logits = (3 * cosine - squared / (2 * reach**2)).masked_fill(~inside[n], -math.inf)
        wanted = (logits.flatten().softmax(0) * masks[n].flatten()).sum()
        torch.testing.assert_close(found[n, row, column], wanted, atol=1e-4, rtol=1e-4)


def told(model, *, present=True, frames=2, size=(64, 112)):
    """Features of one video with two sentences, and tracking information from its frames in reversed order."""
    video = model.encode_video(noise(1, frames, 3, *size))
    features = model.encode_expressions(video, words(model, 1, 2))
    back = torch.arange(frames).flip(0)[None]
    masks = (noise(1, 2, frames, size[0] // 4, size[1] // 4, seed=3) > 1).float()
    given = torch.full((1, 2, frames), present)
    return features, model.track(features.gather_frames(back), masks, given, frames_BTCHW=noise(1, frames, 3, *size),
                                 text=words(model, 1, 2))  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("tracking", ["feature", "rgb"])
def test_without_a_mask_nothing_changes(tracking):
    with_it, without = build(tracking=tracking, presence=True, matching=True), build(tracking=tracking, presence=True)
    without.load_state_dict({k: v for k, v in with_it.state_dict().items() if not k.startswith("matching.")})
    for matched, memory in (told(with_it, present=False), (told(with_it)[0], None)):
        plain, plain_memory = told(without, present=False)
        a, b = with_it.decode(matched, memory), without.decode(plain, None if memory is None else plain_memory)
        for name in ("logits_BETQK", "boxes_BETQ4", "masks_BETQhw", "presence_BETQ"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name))


@torch.no_grad()
@pytest.mark.parametrize("tracking", ["feature", "rgb"])
def test_a_mask_changes_its_own_row_alone(tracking):
    model = build(tracking=tracking, presence=True, matching=True)
    features, memory = told(model)
    assert memory.marked is not None
    none = model.decode(features, replace(memory, present_N=torch.zeros(4, dtype=torch.bool)))
    one = model.decode(features, replace(memory, present_N=torch.tensor([False, True, False, False])))
    for name in ("masks_BETQhw", "presence_BETQ", "logits_BETQK"):
        differs = (getattr(one, name) - getattr(none, name)).flatten(0, 2).flatten(1).abs().amax(1) > 1e-4
        assert differs.tolist() == [False, True, False, False]


@torch.no_grad()
def test_a_mask_of_any_size_is_read_on_the_grid_of_stride_4():
    model = build(tracking="feature", matching=True)
    features, _ = told(model)
    fine = (noise(1, 2, 2, 64, 112, seed=3) > 1).float()
    marked = reference_masks(features, fine)
    assert marked.masks_Nhw.shape == (4, 16, 28)
    assert marked.masks_Nhw[1, 2, 3].item() == pytest.approx(fine[0, 0, 1, 8:12, 12:16].mean().item())
    assert marked.times_N.tolist() == [0, 1, 0, 1]


def test_every_parameter_learns():
    model = build(tracking="feature", presence=True, matching=True).train()
    torch.nn.init.normal_(model.matching.correct[-1].weight, std=0.1)  # zero at first, which hides what is before it
    features, memory = told(model)
    prediction = model.decode(features, memory)
    total = prediction.masks_BETQhw.square().sum() + prediction.presence_BETQ.sum() + prediction.carried_BEThw.sum()
    total.backward()
    for name, parameter in model.matching.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
