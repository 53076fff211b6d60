"""Inference with the real network at random weights: what the fake cannot show, for each tracking stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datasets.video import MemoryVideo
from models.backbone import BackboneConfig
from models.inference import Inference
from models.key_frame import InferenceConfig, VideoResult, segment_video
from models.propagation import Key
from models.segmenter import Segmenter, SegmenterConfig
from models.session import VideoSession
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig
from util import rle
from util.protocol import PUBLISHED
from util.types import Prediction

ARCH = {**ROBERTA_BASE, "vocab_size": 130, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 40}  # fmt: skip
NETWORK = SegmenterConfig(
    backbone=BackboneConfig("tiny"), text=TextEncoderConfig(arch=ARCH), hidden_dim=32, heads=4, encoder_layers=1,
    decoder_layers=2, feedforward=32, queries=3,
)  # fmt: skip
# nothing is absent, so that every frame is tracked whatever random weights say
CONFIG = InferenceConfig(short_side=64, max_side=96, window=3, presence_below=0.0)
SENTENCES = ["a", "the red ring", "one more"]


class Letters:
    """A tokenizer of one token per character."""

    def __call__(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, sentences)) + 2
        ids = torch.ones(len(sentences), longest, dtype=torch.long)
        for row, sentence in zip(ids, sentences, strict=True):
            row[: len(sentence) + 2] = torch.tensor([0, *(ord(c) % 120 + 5 for c in sentence), 2])
        return ids, (ids != 1).long()


def network(**changes) -> Segmenter:
    torch.manual_seed(12)
    segmenter = Segmenter(replace(NETWORK, **changes), tokenizer=Letters()).eval()
    for parameter in segmenter.parameters():
        if parameter.ndim < 2:  # gates and biases start at values that hide a mistake
            parameter.data += 0.3 * torch.randn_like(parameter)
    return segmenter


@pytest.fixture(scope="module")
def video() -> MemoryVideo:
    rng = np.random.default_rng(3)
    still = rng.integers(0, 255, (48, 80, 3))
    moved = [np.roll(still, 6 * t, axis=1) for t in range(7)]
    return MemoryVideo(np.stack(moved).astype(np.uint8), fps=5)


def alike(one: VideoResult, other: VideoResult, of: int, as_: int) -> None:
    assert np.allclose(one.scores_ET[of], other.scores_ET[as_], atol=1e-4)
    assert np.allclose(one.presence_ET[of], other.presence_ET[as_], atol=1e-3)
    assert one.key_E[of] == other.key_E[as_]
    a, b = (np.stack([rle.decode(m) for m in r.masks[e]]) for r, e in ((one, of), (other, as_)))
    assert (a != b).mean() < 1e-3


STREAMS = [
    dict(tracking="feature", time=True, presence=True),
    dict(tracking="feature", matching=True, presence=True),
    dict(tracking="feature", matching=True, presence=True, grounding=True, pointed=True),
    dict(tracking="rgb"),
    dict(tracking="rgb", protocol=PUBLISHED),
    dict(tracking="none", time=True),
]


@pytest.mark.parametrize("changes", STREAMS)
def test_sentences_together_are_as_one_by_one_whatever_is_cached(changes: dict, video: MemoryVideo) -> None:
    segmenter = network(**changes)
    together = segment_video(segmenter, video, SENTENCES, CONFIG)
    forgetful = segment_video(segmenter, video, SENTENCES, replace(CONFIG, cached_frames=1))
    for e, sentence in enumerate(SENTENCES):
        alike(together, segment_video(segmenter, video, [sentence], CONFIG), e, 0)
        alike(together, forgetful, e, e)
    assert len({str(masks) for masks in together.masks}) == 3  # the sentence matters


@pytest.mark.parametrize("changes", STREAMS[:2])
def test_stream_is_the_whole_video_where_the_key_is_its_first_frame(
    changes: dict, video: MemoryVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With windows of one frame, no better key to change to, and random weights kept from choosing another."""
    segmenter = network(**changes)
    config = replace(CONFIG, window=1, rekey_margin=2.0)
    monkeypatch.setattr("models.election.choose_key", lambda *_: Key(0))
    whole = segment_video(segmenter, video, SENTENCES, config)
    session = VideoSession(segmenter, config, fps=video.fps)
    ids = [session.add_sentence(sentence) for sentence in SENTENCES]
    for t in range(len(video)):
        masks = session.step(video[t])
        for e, id_ in enumerate(ids):
            assert (masks[id_] != rle.decode(whole.masks[e][t])).mean() < 1e-3
            assert session.outcomes[id_].presence == pytest.approx(whole.presence_ET[e, t], abs=1e-4)


@pytest.mark.parametrize("tracking", ["feature", "rgb"])
def test_tracking_reads_the_mask_it_is_given(tracking: str, video: MemoryVideo) -> None:
    segmenter = network(tracking=tracking)
    left = np.zeros(video.size, bool)
    left[10:40, 5:30] = True
    a, b = (segment_video(segmenter, video, ["a"], CONFIG, keys={0: (3, m)}) for m in (left, left[:, ::-1]))
    assert np.array_equal(rle.decode(a.masks[0][3]), left) and a.masks[0][4] != b.masks[0][4]
    assert not np.allclose(a.presence_ET, b.presence_ET, atol=1e-5)


def test_clip_mode_is_one_forward_of_the_network(video: MemoryVideo) -> None:
    """Against the plain recipe: all frames at once, the query of the best mean score, stretched to the frame."""
    segmenter = network(protocol=PUBLISHED)
    result = segment_video(segmenter, video, ["the red ring"], CONFIG)
    frames = torch.stack([torch.from_numpy(video[t]) for t in range(len(video))]).permute(0, 3, 1, 2)
    frames = torch.nn.functional.interpolate(frames, (64, 106), mode="bilinear", antialias=True).float() / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        features = segmenter.encode_video(((frames - mean) / std)[None], torch.arange(7)[None] / 5)
        prediction = segmenter(features, segmenter.encode_text([["the red ring"]]))
    query = prediction.logits_BETQK[0, 0, :, :, 0].sigmoid().mean(0).argmax()
    masks = prediction.masks_BETQhw[0, 0, :, query]
    masks = torch.nn.functional.interpolate(masks[None], video.size, mode="bilinear", align_corners=False)[0]
    found = np.stack([rle.decode(mask) for mask in result.masks[0]])
    assert ((masks.sigmoid() > 0.5).numpy() != found).mean() < 1e-4
    assert 0.02 < found.mean() < 0.98


def test_frames_are_resized_as_pil_does() -> None:
    frame = np.random.default_rng(5).integers(0, 255, (270, 480, 3)).astype(np.uint8)
    inference = Inference(network(tracking="none"), InferenceConfig(short_side=96, max_side=160), (270, 480))
    assert inference.canvas == (90, 160)
    expected = np.asarray(Image.fromarray(frame).resize((160, 90), Image.Resampling.BILINEAR), np.float32)
    got = inference.pixels([frame, frame])[0, 1] * inference.std + inference.mean
    assert np.abs(got.permute(1, 2, 0).numpy() * 255 - expected).max() < 1.01


def test_one_query_answers_in_all_frames_that_are_decoded_together() -> None:
    """Query 1 is the best on the mean of three frames; query 0 is better in the last, and its own by frames alone."""
    inference = Inference(network(tracking="feature", presence=True), CONFIG, (64, 96))
    scores = torch.tensor([[0.2, 0.9, 0.1], [0.3, 0.8, 0.1], [0.7, 0.4, 0.1]])
    masks = torch.full((3, 3, 16, 24), -4.0)
    for query in range(3):
        masks[:, query, 4 * query : 4 * query + 3] = 2.0
    presence = torch.tensor([[0.1, 0.9, 0.2], [0.1, 0.8, 0.2], [0.9, 0.3, 0.2]])

    def prediction(frames: slice) -> Prediction:
        empty = torch.zeros(1, 1, len(scores[frames]), 3, 0)
        logits, seen = scores[frames].logit()[None, None, ..., None], presence[frames].logit()[None, None]
        return Prediction(logits, empty, masks[frames][None, None], seen, empty, empty)

    together = inference.read(prediction(slice(None)))
    assert together.scores_ET[0].tolist() == pytest.approx([0.9, 0.8, 0.4])
    assert together.presence_ET[0].tolist() == pytest.approx([0.9, 0.8, 0.3])
    assert torch.equal(together.logits_EThw[0], masks[:, 1])
    alone = inference.read(prediction(slice(2, 3)))
    assert alone.scores_ET[0].tolist() == pytest.approx([0.7]) and torch.equal(alone.logits_EThw[0], masks[2:, 0])
