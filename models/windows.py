"""The frames of a video in windows, each encoded once with each sentence while its features stay in a bounded cache.

A frame's features depend on the window that it is encoded in (the pixel decoder attends over all of it), so both
passes use the same windows. A block is a run of consecutive frames; its windows are interleaved, so that a window can
span more time than its own few frames.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.inference import Answer, Answers, Inference, InferenceConfig
from util.types import ExpressionFeatures, FrameSource, TextFeatures, VideoFeatures

Window = tuple[int, ...]


def blocks(frames: int, window: int, spread: int) -> list[range]:
    """Consecutive runs of nearly equal length, at most window x spread frames each, that cover the video.

    Nearly equal, so that none is a single leftover frame: the network was not trained on windows of one and of five
    alike.
    """
    count = -(-frames // (window * spread))
    edges = [round(frames * k / count) for k in range(count + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


def spread_over(frames: int, window: int, config: InferenceConfig) -> int:
    """Frames from one frame of a window to its next in a video of so many; half of what is cached bounds a block."""
    if not config.spanning:
        return config.spread
    return max(config.spread, min(-(-frames // window), config.cached_frames // (2 * window)))


def windows_of(block: range, window: int) -> list[Window]:
    """The block dealt out to windows of at most `window` frames: frame k to window k mod their number."""
    count = -(-len(block) // window)
    return [tuple(block[k::count]) for k in range(count)]


@dataclass(frozen=True)
class _Pixels:
    """A window before any sentence is read: input [1, T, 3, H, W] and the network's features of it."""

    pixels_BTCHW: Tensor
    video: VideoFeatures


@dataclass(frozen=True)
class _Reading:
    """A window as read with one sentence: features and the answers without tracking, E = 1."""

    features: ExpressionFeatures
    answers: Answers


class Block:
    """What the network made of a block of frames with some sentences; held as long as somebody works on it."""

    def __init__(
        self, windows: Sequence[Window], pixels: dict[Window, _Pixels], readings: dict[tuple[Window, int], _Reading]
    ) -> None:
        self._place = {frame: (window, i) for window in windows for i, frame in enumerate(window)}
        self._pixels = pixels
        self._readings = readings

    def features(self, frame: int, sentences: Sequence[int]) -> ExpressionFeatures:
        """Features of one frame (T = 1) with these sentences, copied."""
        window, i = self._place[frame]
        return join([take(self._readings[window, e].features, [0], [i]) for e in sentences], "expressions")

    def answer(self, frame: int, sentence: int) -> Answer:
        """What the first pass says: the network's answer without tracking."""
        window, i = self._place[frame]
        return self._readings[window, sentence].answers.at(0, i)

    def pixels(self, frame: int) -> Tensor:
        """The network's input [3, H, W]."""
        window, i = self._place[frame]
        return self._pixels[window].pixels_BTCHW[0, i]


class FeatureCache:
    """Reads blocks, encoding what is not kept any more. At most `cached_frames` frames x sentences are kept.

    A window's text-free part counts as one sentence. What was used longest ago goes first.
    """

    def __init__(self, inference: Inference, frames: FrameSource, text: TextFeatures) -> None:
        self.inference = inference
        self.frames = frames
        self.text = text
        config = inference.config
        self.blocks = blocks(len(frames), config.window, spread_over(len(frames), config.window, config))
        self._kept: OrderedDict[tuple[Window, int | None], _Pixels | _Reading] = OrderedDict()

    @property
    def kept(self) -> int:
        """Frames x sentences whose features are held."""
        return sum(len(window) for window, _ in self._kept)

    def chunks(self, block: range, sentences: Sequence[int]) -> list[list[int]]:
        """Sentences in groups that fit the bound together with the text-free part: more do not need more memory."""
        size = max(1, self.inference.config.cached_frames // len(block) - 1)
        return [list(sentences[i : i + size]) for i in range(0, len(sentences), size)]

    def read(self, block: range, sentences: Sequence[int]) -> Block:
        """The block with these sentences: features, answers without tracking, pixels."""
        windows = windows_of(block, self.inference.config.window)
        pixels: dict[Window, _Pixels] = {}
        readings: dict[tuple[Window, int], _Reading] = {}
        for window in windows:
            pixels[window] = self._encoded(window)
            missing = [e for e in sentences if (window, e) not in self._kept]
            for e, reading in self._read(pixels[window].video, missing).items():
                self._kept[window, e] = reading
            for e in sentences:
                kept = self._kept[window, e]
                assert isinstance(kept, _Reading)
                readings[window, e] = kept
                self._kept.move_to_end((window, e))
            self._forget()
        return Block(windows, pixels, readings)

    def windows(self) -> Iterator[tuple[Window, VideoFeatures]]:
        """All windows of the video, before any sentence is read."""
        for block in self.blocks:
            for window in windows_of(block, self.inference.config.window):
                yield window, self._encoded(window).video
                self._forget()

    def _encoded(self, window: Window) -> _Pixels:
        kept = self._kept.get((window, None))
        if kept is None:
            pixels = self.inference.pixels([self.frames[t] for t in window])
            times = self.inference.times(window, self.frames.fps)
            kept = _Pixels(pixels, self.inference.segmenter.encode_video(pixels, times))
            self._kept[window, None] = kept
        assert isinstance(kept, _Pixels)
        self._kept.move_to_end((window, None))
        return kept

    def _read(self, video: VideoFeatures, sentences: list[int]) -> dict[int, _Reading]:
        if not sentences:
            return {}
        network = self.inference.segmenter
        features = network.encode_expressions(video, select_text(self.text, sentences))
        answers = self.inference.read(network.decode(features))
        every = range(len(answers.scores_ET[0]))
        return {
            # copied, not sliced: a slice would keep every sentence's features alive
            e: _Reading(take(features, [n], every), _rows(answers, n))
            for n, e in enumerate(sentences)
        }

    def _forget(self) -> None:
        while len(self._kept) > 1 and self.kept > self.inference.config.cached_frames:
            self._kept.popitem(last=False)


def take(features: ExpressionFeatures, expressions: Sequence[int], frames: Sequence[int]) -> ExpressionFeatures:
    """A copy of some sentences and frames, in that order (B = 1)."""
    device = features.memory_NSC.device
    e, t = (torch.tensor(list(x), dtype=torch.long, device=device) for x in (expressions, frames))
    rows = (e[:, None] * features.times_BT.shape[1] + t).flatten()
    return replace(
        features,
        memory_NSC=features.memory_NSC[rows],
        padding_NS=features.padding_NS[rows],
        ratios_NL2=features.ratios_NL2[rows],
        mask_features_NChw=features.mask_features_NChw[rows],
        sentence_BEC=features.sentence_BEC[:, e],
        times_BT=features.times_BT[:, t],
        grounding_NS=None if features.grounding_NS is None else features.grounding_NS[rows],
    )


def join(parts: Sequence[ExpressionFeatures], along: Literal["expressions", "frames"]) -> ExpressionFeatures:
    """Features of the same video put together: more sentences of the same frames, or more frames of the same sentences.

    Joined along the sentences, the first part's times stand for all (B = 1).
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    axis = 0 if along == "expressions" else 1

    def rows(name: str) -> Tensor:
        split = (getattr(p, name).unflatten(0, (p.sentence_BEC.shape[1], p.times_BT.shape[1])) for p in parts)
        return torch.cat(list(split), axis).flatten(0, 1)

    more_sentences = along == "expressions"
    return replace(
        first,
        memory_NSC=rows("memory_NSC"),
        padding_NS=rows("padding_NS"),
        ratios_NL2=rows("ratios_NL2"),
        mask_features_NChw=rows("mask_features_NChw"),
        sentence_BEC=torch.cat([p.sentence_BEC for p in parts], 1) if more_sentences else first.sentence_BEC,
        times_BT=first.times_BT if more_sentences else torch.cat([p.times_BT for p in parts], 1),
        grounding_NS=None if first.grounding_NS is None else rows("grounding_NS"),
    )


def select_text(text: TextFeatures, sentences: Sequence[int]) -> TextFeatures:
    """Some of the sentences of one video."""
    rows = torch.tensor(list(sentences), dtype=torch.long, device=text.words_BELC.device)
    return TextFeatures(text.words_BELC[:, rows], text.padding_BEL[:, rows], text.sentence_BEC[:, rows])


def join_text(texts: Sequence[TextFeatures]) -> TextFeatures:
    """Sentences encoded apart, side by side; words padded to the longest."""
    longest = max(text.words_BELC.shape[2] for text in texts)
    words, padding = [], []
    for text in texts:
        short = longest - text.words_BELC.shape[2]
        words.append(F.pad(text.words_BELC, (0, 0, 0, short)))
        padding.append(F.pad(text.padding_BEL, (0, short), value=True))
    return TextFeatures(torch.cat(words, 1), torch.cat(padding, 1), torch.cat([t.sentence_BEC for t in texts], 1))


def _rows(answers: Answers, expression: int) -> Answers:
    one = slice(expression, expression + 1)
    return Answers(
        answers.logits_EThw[one].clone(), answers.scores_ET[one], answers.confidence_ET[one], answers.presence_ET[one]
    )
