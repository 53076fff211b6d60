"""What must hold of the network whatever its weights: batches, sentences, frames, tracking, time, precision."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import build, words

from models.tracking import feature_memory, mask_centres, tracking_frames
from util.types import Prediction, TextFeatures

FIELDS = ("logits_BETQK", "boxes_BETQ4", "masks_BETQhw", "embeddings_BETQC")


def same(a: Prediction, b: Prediction, tolerance: float = 1e-5) -> None:
    for name in FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=tolerance, rtol=1e-4)


def frames(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pick(text: TextFeatures, videos: slice, expressions: slice) -> TextFeatures:
    return TextFeatures(*(getattr(text, f.name)[videos, expressions] for f in dataclasses.fields(text)))


@torch.no_grad()
def test_sentences_together_equal_one_by_one():
    model = build(time=True)
    video, text = model.encode_video(frames(1, 2, 3, 64, 96)), words(model, 1, 3)
    together = model(video, text)
    for e in range(3):
        alone = model(video, pick(text, slice(None), slice(e, e + 1)))
        for name in FIELDS:
            x = getattr(together, name)[:, e : e + 1]
            torch.testing.assert_close(x, getattr(alone, name), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_videos_together_equal_one_by_one():
    model = build(time=True)
    clips, text = frames(2, 2, 3, 64, 96), words(model, 2, 2)
    together = model(model.encode_video(clips), text)
    for b in range(2):
        alone = model(model.encode_video(clips[b : b + 1]), pick(text, slice(b, b + 1), slice(None)))
        for name in FIELDS:
            x = getattr(together, name)[b : b + 1]
            torch.testing.assert_close(x, getattr(alone, name), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_declared_sizes_equal_no_padding():
    """Masked attention over nothing masked is plain attention."""
    model = build()
    clip, text = frames(1, 2, 3, 64, 96), words(model, 1, 1)
    video = model.encode_video(clip)
    same(model(video, text), model(dataclasses.replace(video, padded=True), text))


@torch.no_grad()
def test_padding_leaks_only_into_masks():
    """Queries never see padding; the pixel decoder's convolutions and GroupNorm do, and by this much."""
    model = build()
    clip, text = frames(1, 1, 3, 64, 96), words(model, 1, 1)
    alone = model(model.encode_video(clip), text)
    padded = torch.nn.functional.pad(clip, (0, 32, 0, 32))
    batched = model(model.encode_video(padded, sizes_B2=torch.tensor([[64, 96]])), text)
    leak = (alone.masks_BETQhw - batched.masks_BETQhw[..., :16, :24]).abs().max()
    spread = alone.masks_BETQhw.std()
    assert 0 < leak < 2 * spread


@torch.no_grad()
def test_without_time_frames_are_interchangeable():
    model = build()
    clip, text = frames(1, 3, 3, 64, 64), words(model, 1, 1)
    order = torch.tensor([2, 0, 1])
    plain, permuted = model(model.encode_video(clip), text), model(model.encode_video(clip[:, order]), text)
    for name in FIELDS:
        torch.testing.assert_close(getattr(plain, name)[:, :, order], getattr(permuted, name), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_with_time_a_reversed_clip_is_another_clip():
    model = build(time=True)
    clip, text = frames(1, 3, 3, 64, 64), words(model, 1, 1)
    forward, backward = model(model.encode_video(clip), text), model(model.encode_video(clip.flip(1)), text)
    assert (forward.logits_BETQK - backward.logits_BETQK.flip(2)).abs().max() > 1e-3


@torch.no_grad()
def test_closed_gate_is_no_time():
    timed, plain = build(time=True), build()
    state = {k: v for k, v in timed.state_dict().items() if not k.startswith("temporal.")}
    plain.load_state_dict(state)
    for layer in timed.temporal:
        layer.gate.zero_()
    clip, text = frames(1, 3, 3, 64, 64), words(plain, 1, 1)
    same(plain(plain.encode_video(clip), text), timed(timed.encode_video(clip), text), 0.0)


def tracked(model, clip, text, present):
    video = model.encode_video(clip)
    features = model.encode_expressions(video, text)
    index = torch.tensor([[1, 0]])
    masks = torch.zeros(1, text.sentence_BEC.shape[1], 2, 16, 24)
    masks[..., 3:9, 5:12] = 0.9
    reference = features.gather_frames(index)
    memory = model.track(reference, masks, present, frames_BTCHW=clip[:, [1, 0]], text=text)
    return model.decode(features, memory), model.decode(features)


@pytest.mark.parametrize("mode", ["rgb", "feature"])
@torch.no_grad()
def test_tracking_is_skipped_where_there_is_none(mode):
    model = build(tracking=mode)
    clip, text = frames(1, 2, 3, 64, 96), words(model, 1, 2)
    off = torch.zeros(1, 2, 2, dtype=torch.bool)
    same(*tracked(model, clip, text, off))
    some = off.clone()
    some[0, 1, 0] = True
    with_tracking, without = tracked(model, clip, text, some)
    changed = (with_tracking.logits_BETQK - without.logits_BETQK).abs().amax((-1, -2))[0]
    assert changed[1, 0] > 1e-3
    assert changed[0].max() < 1e-5
    assert changed[1, 1] < 1e-5


@torch.no_grad()
def test_rgb_and_feature_need_their_inputs():
    model = build(tracking="rgb")
    video, text = model.encode_video(frames(1, 1, 3, 64, 64)), words(model, 1, 1)
    features = model.encode_expressions(video, text)
    with pytest.raises(ValueError, match="needs the reference frames"):
        model.track(features, torch.zeros(1, 1, 1, 16, 16), torch.ones(1, 1, 1, dtype=torch.bool))
    plain = build()
    with pytest.raises(ValueError, match="no tracking stream"):
        plain.track(features, torch.zeros(1, 1, 1, 16, 16), torch.ones(1, 1, 1, dtype=torch.bool))


def test_tracking_frames_are_black_outside_the_mask():
    clip = frames(1, 1, 3, 8, 8)
    masks = torch.zeros(1, 2, 1, 8, 8)
    masks[0, 0, 0, :4] = 1
    out = tracking_frames(clip, masks)
    torch.testing.assert_close(out[0, 0, :, :4], clip[0, 0, :, :4])
    black = torch.tensor([-2.117904, -2.035714, -1.804444])
    torch.testing.assert_close(out[1, 0, :, 0, 0], black, atol=1e-5, rtol=0)
    torch.testing.assert_close(out[0, 0, :, 7, 7], black, atol=1e-5, rtol=0)


def test_mask_centres_are_shares_of_the_unpadded_frame():
    masks = torch.zeros(1, 1, 2, 8, 16)
    masks[0, 0, 0, 2:4, 4:8] = 1
    centres = mask_centres(masks, torch.tensor([[16, 32]]), (8, 16))
    torch.testing.assert_close(centres, torch.tensor([[6 * 4 / 32, 3 * 4 / 16], [0.5, 0.5]]))


def test_feature_memory_keeps_what_the_mask_covers():
    memory = torch.ones(1, 4 * 4 + 2 * 2, 3)
    masks = torch.zeros(1, 8, 8)
    masks[0, :4, :4] = 1
    out = feature_memory(memory, ((4, 4), (2, 2)), masks)
    assert out[0, :, 0].tolist() == [1, 1, 0, 0] * 2 + [0] * 8 + [1, 0, 0, 0]


@torch.no_grad()
def test_frame_of_features_is_the_frame_of_the_prediction():
    model = build()
    text = words(model, 1, 2)
    features = model.encode_expressions(model.encode_video(frames(1, 3, 3, 64, 64)), text)
    whole = model.decode(features)
    single = model.decode(features.frame(1))
    torch.testing.assert_close(single.masks_BETQhw[:, :, 0], whole.masks_BETQhw[:, :, 1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_bfloat16_autocast_keeps_coordinates():
    """Masks and boxes of a half-precision run stay close, because locations and relative coordinates are float32."""
    model = build(time=True, tracking="feature")
    clip, text = frames(1, 2, 3, 64, 96), words(model, 1, 2)
    present = torch.ones(1, 2, 2, dtype=torch.bool)
    exact, _ = tracked(model, clip, text, present)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = tracked(model, clip, text, present)
    assert (exact.boxes_BETQ4 - rounded.boxes_BETQ4.float()).abs().max() < 2e-2
    assert (exact.masks_BETQhw - rounded.masks_BETQhw.float()).abs().mean() < 0.05 * exact.masks_BETQhw.std()


@torch.no_grad()
def test_too_small_frames_are_refused_with_a_reason():
    model = build()
    with pytest.raises(ValueError, match="too small"):
        model(model.encode_video(frames(1, 1, 3, 16, 16)), words(model, 1, 1))


def test_frozen_text_is_read_once_and_like_unfrozen():
    from models.text_cache import TextCache

    cache, asked = TextCache(capacity=2), []

    def encoder(sentences):
        asked.extend(sentences)
        lengths = torch.tensor([len(s) for s in sentences])
        hidden = torch.stack([torch.full((9, 2), float(len(s))) for s in sentences])
        return hidden, hidden[:, 0], torch.arange(9) >= lengths[:, None]

    hidden, pooled, padding = cache.read(["abc", "abcde", "abc"], encoder)
    assert asked == ["abc", "abcde"]
    assert (~padding).sum(1).tolist() == [3, 5, 3]
    assert pooled[:, 0].tolist() == [3, 5, 3]
    assert hidden[0, :3, 0].tolist() == [3, 3, 3]
    cache.read(["abcde"], encoder)
    assert asked == ["abc", "abcde"]
    cache.read(["x", "y"], encoder)
    cache.read(["abc"], encoder)
    assert asked == ["abc", "abcde", "x", "y", "abc"]
