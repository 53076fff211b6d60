"""The loss on the fusion's maps, the head that makes them, and that nothing else of the network changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny import build, words

from models.grounding import LEAST_SHARE, GroundingHead
from models.segmenter import Segmenter
from models.windows import join, take
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


def head(nowhere: float = -100.0) -> GroundingHead:
    """A head that points nowhere only where it is told to."""
    made = GroundingHead(8)
    with torch.no_grad():
        made.nowhere.fill_(nowhere)
    return made


def test_it_is_the_divergence_from_the_covered_share_of_each_token() -> None:
    """Equal logits give the right half as much as the left: log 2 at every level; the true shares give 0."""
    uniform = torch.zeros(1, sum(SIZES))
    assert head().loss(maps(uniform), targets(left_half())).item() == pytest.approx(math.log(2))
    right = [torch.arange(w).repeat(h) >= w // 2 for h, w in SHAPES]
    pointed = uniform.masked_fill(torch.cat(right), -100.0)
    assert head().loss(maps(pointed), targets(left_half())).item() == pytest.approx(0, abs=1e-6)
    assert head().loss(maps(-pointed), targets(left_half())).item() > 90
    masks = left_half()
    masks[..., :16, :] = False  # three quarters of the tokens do not show it
    expected = (2 * math.log(4) + math.log(2)) / 3
    assert head().loss(maps(uniform), targets(masks)).item() == pytest.approx(expected)


def test_a_frame_without_the_referent_points_nowhere() -> None:
    """So does every frame of a sentence without one; nowhere's share counts where there is something to see."""
    nothing = torch.zeros_like(left_half())
    uniform = torch.zeros(1, sum(SIZES))
    expected = sum(math.log(size + 1) for size in SIZES) / 3
    assert head(0.0).loss(maps(uniform), targets(nothing)).item() == pytest.approx(expected, rel=1e-5)
    assert head(100.0).loss(maps(uniform), targets(nothing)).item() == pytest.approx(0, abs=1e-6)
    no_target = replace(targets(left_half()), objects_BEN=torch.zeros(1, 1, 1, dtype=torch.bool))
    assert head(100.0).loss(maps(uniform), no_target).item() == pytest.approx(0, abs=1e-6)
    assert head(100.0).loss(maps(uniform), targets(left_half())).item() > 90


def test_padding_takes_no_share_and_gives_finite_gradients() -> None:
    padding = torch.cat([torch.arange(w).repeat(h) >= w // 2 for h, w in SHAPES])[None]
    logits = torch.zeros(1, sum(SIZES), requires_grad=True)
    loss = head().loss(maps(logits, padding), targets(left_half()))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_frames_to_be_ignored_do_not_count() -> None:
    """Of two frames one is not labelled: the sum is the other's."""
    masks = left_half().repeat(1, 1, 1, 2, 1, 1)
    truth = targets(masks, [[PRESENT, IGNORE]])
    logits = torch.randn(2, sum(SIZES), generator=torch.Generator().manual_seed(0))
    alone = head().loss(maps(logits[:1]), targets(left_half()))
    assert head().loss(maps(logits), truth).item() == pytest.approx(alone.item())
    assert head().loss(maps(logits), targets(masks)).item() != pytest.approx(alone.item())


def test_several_referents_share() -> None:
    """The union of a sentence's objects is what it means."""
    halves = torch.cat((left_half(), ~left_half()), dim=2)
    everything = torch.ones_like(left_half())
    logits = torch.randn(1, sum(SIZES), generator=torch.Generator().manual_seed(0))
    union = head().loss(maps(logits), targets(everything))
    assert head().loss(maps(logits), targets(halves)).item() == pytest.approx(union.item())


def test_evidence_is_the_log_share_of_the_pointing_in_a_mask() -> None:
    """A sure map of the left half: all of it, half of it, none of it."""
    sure = head()
    with torch.no_grad():
        sure.trust.copy_(torch.tensor([1.0, 2.0, 0.0]))
    right = torch.cat([torch.arange(w).repeat(h) >= w // 2 for h, w in SHAPES])
    pointed = torch.zeros(1, sum(SIZES)).masked_fill(right, -100.0)
    masks = torch.full((1, 3, 8, 16), -100.0)
    masks[0, 0, :, :8] = 100.0
    masks[0, 1, :4, :8] = 100.0
    masks[0, 2, :, 8:] = 100.0
    evidence = sure.evidence(sure.log_shares(maps(pointed)), SHAPES, masks)
    assert evidence[0].tolist() == pytest.approx([0.0, 3 * math.log(0.5), 3 * math.log(LEAST_SHARE)], abs=1e-3)
    with torch.no_grad():
        sure.nowhere.fill_(100.0)  # whatever a query covers, the sentence's referent is not there
    assert sure.evidence(sure.log_shares(maps(pointed)), SHAPES, masks)[0].tolist() == pytest.approx(
        [3 * math.log(LEAST_SHARE)] * 3, abs=1e-3
    )


def test_evidence_is_float32_under_autocast_and_finite_with_padding() -> None:
    """bfloat16 would round a share near 1 to 1; at padding the logits are -inf."""
    padding = torch.cat([torch.arange(w).repeat(h) >= w // 2 for h, w in SHAPES])[None]
    logits = torch.randn(1, sum(SIZES), generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks = torch.randn(1, 3, 8, 16, generator=torch.Generator().manual_seed(1))

    def evidence() -> torch.Tensor:
        made = head(0.0)
        return made.evidence(made.log_shares(maps(logits, padding)), SHAPES, masks)

    exact = evidence()
    with torch.autocast("cpu", torch.bfloat16):
        lowered = evidence()
    torch.testing.assert_close(lowered, exact, atol=1e-6, rtol=1e-6)
    exact.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


def grounded_pair() -> tuple[Segmenter, Segmenter]:
    """The same network without and with the grounding head."""
    plain, model = build(), build(grounding=True)
    model.load_state_dict(plain.state_dict() | {k: v for k, v in model.state_dict().items() if "grounding" in k})
    return plain, model


@torch.no_grad()
def test_the_head_adds_its_evidence_to_the_scores_and_changes_nothing_else() -> None:
    plain, model = grounded_pair()
    frames = torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    text = words(model, 1, 3)
    features = model.encode_expressions(model.encode_video(frames), text)
    assert features.grounding is not None and model.grounding_head is not None
    assert features.grounding.logits_NS.shape == features.memory_NSC.shape[:2] == (6, 64 + 16 + 4 + 1)
    given = model.decode(features)
    before = plain(plain.encode_video(frames), words(plain, 1, 3))
    assert torch.equal(given.masks_BETQhw, before.masks_BETQhw)
    evidence = model.grounding_head.evidence(
        model.grounding_head.log_shares(features.grounding), features.shapes, given.masks_BETQhw.flatten(0, 2)
    )
    added = (given.logits_BETQK - before.logits_BETQK).flatten()
    torch.testing.assert_close(added, evidence.flatten(), atol=1e-5, rtol=1e-5)
    assert evidence.std() > 0


@torch.no_grad()
def test_the_maps_alone_are_those_of_the_whole_network_and_depend_on_the_sentence() -> None:
    plain, model = grounded_pair()
    video = model.encode_video(torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    text = words(model, 1, 3)
    whole = model.encode_expressions(video, text)
    assert torch.equal(model.ground(video, text).logits_NS, whole.grounding_NS)
    assert not torch.allclose(model.ground(video, words(model, 1, 3, seed=1)).logits_NS, whole.grounding_NS)
    with pytest.raises(ValueError, match="grounding head"):
        plain.ground(video, text)


@torch.no_grad()
def test_features_that_are_cut_and_joined_keep_their_maps() -> None:
    """Sentences and frames taken apart and put together again score as before."""
    _, model = grounded_pair()
    video = model.encode_video(torch.randn(1, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    whole = model.encode_expressions(video, words(model, 1, 2))
    apart = [join([take(whole, [e], [t]) for t in range(3)], "frames") for e in range(2)]
    again = join(apart, "expressions")
    assert torch.equal(again.grounding_NS, whole.grounding_NS)
    last = whole.gather_frames(torch.tensor([[2]]))
    assert torch.equal(last.grounding_NS, take(whole, [0, 1], [2]).grounding_NS)


def test_the_class_loss_reaches_the_maps_and_not_the_masks_through_them() -> None:
    _, model = grounded_pair()
    video = model.encode_video(torch.randn(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    prediction = model.decode(model.encode_expressions(video, words(model, 1, 1)))
    prediction.logits_BETQK.sum().backward()
    assert model.grounding_head is not None
    for parameter in model.grounding_head.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.controller.parameters())


@torch.no_grad()
def test_pointing_has_no_say_where_a_mask_is_told():
    model = build(grounding=True, tracking="feature")
    clip = torch.randn(1, 2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    features = model.encode_expressions(model.encode_video(clip), words(model, 1, 2))
    masks = torch.zeros(1, 2, 2, 16, 24)
    masks[..., 3:9, 5:12] = 0.9
    told = torch.tensor([[[True, False], [False, True]]])
    memory = model.track(features.gather_frames(torch.tensor([[1, 0]])), masks, told)
    before = model.decode(features, memory).logits_BETQK
    after = model.decode(replace(features, grounding_NS=features.grounding_NS.flip(1) * 3), memory).logits_BETQK
    changed = (before - after).abs().amax((-1, -2))
    assert (changed > 1e-4).equal(~told)
