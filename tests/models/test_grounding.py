"""The loss on the fusion's maps, the head that makes them, and that nothing else of the network changes."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import build, words

from models.grounding import grounding_loss
from util.types import ABSENT, IGNORE, PRESENT, GroundingMaps, Targets

SHAPES = ((4, 8), (2, 4), (1, 2))
SIZES = [h * w for h, w in SHAPES]


def targets(masks_BENTHW: torch.Tensor, states: list[list[int]] | None = None) -> Targets:
    """Targets whose objects are present where their mask is not empty, unless `states` [N][T] says otherwise."""
    seen = masks_BENTHW.flatten(-2).any(-1)
    given = torch.where(seen, PRESENT, ABSENT) if states is None else torch.tensor(states).expand(seen.shape)
    objects = torch.ones(seen.shape[:3], dtype=torch.bool)
    boxes = torch.zeros(*seen.shape, 4)
    return Targets(masks_BENTHW, boxes, given.to(torch.int8), objects, objects.long() * 0)


def maps(logits_NS: torch.Tensor, padding_NS: torch.Tensor | None = None) -> GroundingMaps:
    return GroundingMaps(
        logits_NS, SHAPES, torch.zeros_like(logits_NS, dtype=torch.bool) if padding_NS is None else padding_NS
    )


def left_half() -> torch.Tensor:
    """One frame of 32x64 pixels whose left half is the referent."""
    masks = torch.zeros(1, 1, 1, 1, 32, 64, dtype=torch.bool)
    masks[..., :32] = True
    return masks


def test_it_is_the_divergence_from_the_covered_share_of_each_token() -> None:
    """Equal logits give the right half as much as the left: log 2 at every level; the true shares give 0."""
    uniform = torch.zeros(1, sum(SIZES))
    assert grounding_loss(maps(uniform), targets(left_half())).item() == pytest.approx(math.log(2))
    right = [torch.arange(w).repeat(h) >= w // 2 for h, w in SHAPES]
    pointed = uniform.masked_fill(torch.cat(right), -100.0)
    assert grounding_loss(maps(pointed), targets(left_half())).item() == pytest.approx(0, abs=1e-6)
    assert grounding_loss(maps(-pointed), targets(left_half())).item() > 90
    masks = left_half()
    masks[..., :16, :] = False  # three quarters of the tokens do not show it
    assert grounding_loss(maps(uniform), targets(masks)).item() == pytest.approx((2 * math.log(4) + math.log(2)) / 3)


def test_padding_takes_no_share_and_gives_finite_gradients() -> None:
    padding = torch.cat([torch.arange(w).repeat(h) >= w // 2 for h, w in SHAPES])[None]
    logits = torch.zeros(1, sum(SIZES), requires_grad=True)
    loss = grounding_loss(maps(logits, padding), targets(left_half()))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_frames_without_the_referent_and_frames_to_be_ignored_do_not_count() -> None:
    """Of three frames one shows the referent, one is not labelled, one does not hold it: the sum is the first's."""
    masks = left_half().repeat(1, 1, 1, 3, 1, 1)
    masks[:, :, :, 2] = False
    truth = targets(masks, [[PRESENT, IGNORE, ABSENT]])
    logits = torch.randn(3, sum(SIZES), generator=torch.Generator().manual_seed(0))
    alone = grounding_loss(maps(logits[:1]), targets(left_half()))
    assert grounding_loss(maps(logits), truth).item() == pytest.approx(alone.item())
    assert grounding_loss(maps(logits[2:]), targets(masks[:, :, :, 2:])).item() == 0


def test_several_referents_share() -> None:
    """The union of a sentence's objects is what it means."""
    halves = torch.cat((left_half(), ~left_half()), dim=2)
    everything = torch.ones_like(left_half())
    logits = torch.randn(1, sum(SIZES), generator=torch.Generator().manual_seed(0))
    union = grounding_loss(maps(logits), targets(everything))
    assert grounding_loss(maps(logits), targets(halves)).item() == pytest.approx(union.item())


def test_the_head_reads_the_fusion_and_changes_nothing_else() -> None:
    plain, model = build(), build(grounding=True)
    model.load_state_dict(plain.state_dict() | {k: v for k, v in model.state_dict().items() if "grounding" in k})
    frames = torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        text = words(model, 1, 3)
        video = model.encode_video(frames)
        assert model.encode_expressions(video, text).grounding is None  # nothing that inference would carry about
        features = model.train().encode_expressions(video, text)
        before = plain(plain.encode_video(frames), words(plain, 1, 3))
        assert torch.equal(model.decode(features).masks_BETQhw, before.masks_BETQhw)
        assert features.grounding is not None
        assert features.grounding.logits_NS.shape == features.memory_NSC.shape[:2] == (6, 64 + 16 + 4 + 1)
        assert torch.equal(model.ground(video, text).logits_NS, features.grounding.logits_NS)
        other = model.ground(video, words(model, 1, 3, seed=1)).logits_NS
    assert not torch.allclose(other, features.grounding.logits_NS)
    with pytest.raises(ValueError, match="grounding head"):
        plain.ground(video, text)
