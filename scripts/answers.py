"""Where answers to a data set's sentences come from: a network, a baseline, PNG files. `eval` and `submit` ask them.

Each has the same three methods, one for each way in which a benchmark asks: `masks` of all sentences of a video,
`labels` of Ref-DAVIS17's annotation sets, `detections` in single frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from datasets import tree
from datasets.predictions import PngFiles, masks_of, prefix_of
from datasets.synthetic.baselines import Baseline, drawn
from datasets.synthetic.controls import ControlledVideos
from util import rle
from util.controls import answer_with_one_object, true_keys
from util.davis_scores import SETS, Labels, labels_from_probabilities
from util.distributed import World
from util.errors import InputError
from util.image_scores import Detection, detections_by_image
from util.scoring import FrameMasks, Masks
from util.types import Expression, ReferringVideo

Detect = Callable[[int, list[int]], list[list[Detection]]]  # (frame, sentences) -> detections of each of them
ImageId = Callable[[ReferringVideo, Expression, int], str]


class Answers(Protocol):
    """Answers to the sentences of video number n. `about` is what a report says of them."""

    about: dict[str, Any]

    def masks(self, number: int, video: ReferringVideo) -> Masks | FrameMasks | None: ...
    def labels(self, number: int, video: ReferringVideo) -> Labels: ...
    def detections(self, number: int, video: ReferringVideo, image_id: ImageId) -> Detect: ...


class BaselineAnswers:
    """No network: true masks of objects that are picked by a rule.

    In the synthetic world the objects are all things of the video, else those that its sentences name.
    """

    def __init__(self, baseline: Baseline, synthetic: ControlledVideos | None = None) -> None:
        self.baseline: Baseline = baseline
        self._synthetic = synthetic
        self.about: dict[str, Any] = {"answer": f"{baseline} object"}

    def masks(self, number: int, video: ReferringVideo) -> Masks:
        if self._synthetic is not None:
            return drawn(self._synthetic.case(number), self.baseline, seed=number)
        assert self.baseline in ("largest", "random")
        return answer_with_one_object(video, self.baseline, seed=number)

    def labels(self, number: int, video: ReferringVideo) -> Labels:
        masks = self.masks(number, video)

        def sure(frame: int, places: Sequence[int]) -> np.ndarray:
            return np.stack([rle.decode(masks[place][frame]) for place in places])

        return labels_from_probabilities(sure, video)

    def detections(self, number: int, video: ReferringVideo, image_id: ImageId) -> Detect:
        masks = self.masks(number, video)
        return lambda frame, sentences: [[Detection(1.0, masks[e][frame])] for e in sentences]


class NetworkAnswers:
    """A network's: masks by its engine, detections from all of its queries."""

    def __init__(
        self,
        weights: str,
        world: World,
        *,
        mode: Literal["track", "clip"] | None = None,
        short_side: int | None = None,
        text_encoder: str | None = None,
        tracking: Literal["none", "rgb"] = "none",
        true_key: bool = False,
    ) -> None:
        """Settings are the weights' own where they are None. Raises InputError for weights that cannot be used."""
        from models.checkpoint import load_segmenter
        from scripts.segment import stored_settings, with_size

        self.segmenter = load_segmenter(weights, text_encoder=text_encoder, tracking=tracking, device=world.device)
        config = with_size(stored_settings(weights), short_side)
        self.config = replace(config, mode=mode or config.mode)
        self.true_key = true_key
        self.about: dict[str, Any] = {
            "weights": weights,
            "protocol": self.segmenter.config.protocol.name,
            "inference": asdict(self.config),
        }

    def masks(self, number: int, video: ReferringVideo) -> Masks:
        from models.key_frame import segment_video

        keys = true_keys(video) if self.true_key else None
        return segment_video(self.segmenter, video.frames, _sentences(video), self.config, keys=keys).masks

    def labels(self, number: int, video: ReferringVideo) -> Labels:
        from models.key_frame import segment_video
        from models.soft_masks import SoftMasks

        soft = SoftMasks()
        segment_video(self.segmenter, video.frames, _sentences(video), self.config, soft=soft)
        return labels_from_probabilities(soft.probabilities, video)

    def detections(self, number: int, video: ReferringVideo, image_id: ImageId) -> Detect:
        from models.all_queries import detect

        def asked(frame: int, sentences: list[int]) -> list[list[Detection]]:
            texts = [_sentences(video)[e] for e in sentences]
            return detect(self.segmenter, video.frames, frame, texts, self.config)

        return asked


def _sentences(video: ReferringVideo) -> list[str]:
    return [expression.text for expression in video.expressions]


class FileAnswers:
    """What any program wrote: PNG files in a folder or a zip, or for single frames COCO's results as JSON."""

    def __init__(self, path: Path, ids: list[str], *, davis: bool = False) -> None:
        """`ids` of the videos that are asked for. Raises InputError when none of them is there."""
        self.path = path
        self.about: dict[str, Any] = {"predictions": str(path)}
        self._by_image: dict[str, list[Detection]] | None = None
        if path.suffix == ".json":
            content = tree.read_json(path, "detections in COCO's results format")
            self._by_image = detections_by_image(content, str(path))
            return
        self.files = PngFiles(path)
        folders = [f"anno_{number}/{video}" for number in range(SETS) for video in ids] if davis else ids
        self.prefix = prefix_of(self.files, folders)

    def masks(self, number: int, video: ReferringVideo) -> FrameMasks | None:
        self._require_png()
        return masks_of(self.files, self.prefix, video)

    def labels(self, number: int, video: ReferringVideo) -> Labels:
        self._require_png()

        def drawn(annotation_set: int, frame: int) -> np.ndarray:
            name = f"{self.prefix}anno_{annotation_set}/{video.id}/{video.frame_names[frame]}.png"
            return self.files.labels(name, video.frames.size)

        return drawn

    def detections(self, number: int, video: ReferringVideo, image_id: ImageId) -> Detect:
        by_image = self._by_image
        if by_image is not None:
            expressions = video.expressions
            return lambda frame, asked: [by_image.get(image_id(video, expressions[e], frame), []) for e in asked]
        masks = masks_of(self.files, self.prefix, video)
        if masks is None:
            return lambda frame, asked: [[] for _ in asked]
        return lambda frame, asked: [[Detection(1.0, rle.encode(masks(e, frame)))] for e in asked]

    def _require_png(self) -> None:
        if self._by_image is not None:
            raise InputError(f"{self.path} holds detections in single frames; these data are scored on whole videos: "
                             "give a folder or a zip of PNGs")  # fmt: skip


def network_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_network_arguments` added, as `NetworkAnswers` takes it."""
    return {name: getattr(options, name) for name in ("mode", "short_side", "text_encoder", "tracking")}


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a network's inference, beside --weights and --device."""
    parser.add_argument("--mode", choices=("track", "clip"), help="default: track if the weights can")
    parser.add_argument("--short-side", type=int, help="pixels of the network's input (default: the weights' own)")
    parser.add_argument("--text-encoder", help="folder or hub id, for released weights that come without a tokenizer")
    parser.add_argument(
        "--tracking", choices=("none", "rgb"), default="none", help="of a released .pth: rgb if it is TF-RVOS's"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
