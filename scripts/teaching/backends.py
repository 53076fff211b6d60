"""The models of a teaching job, chosen by words such as `grounding_dino` or `sam2=FOLDER`, loaded when named."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from util.errors import InputError
from util.types import ReferringVideo

if TYPE_CHECKING:
    from models.teacher.interfaces import Detector, ExpressionParser, Matcher, VideoSegmenter
    from models.teacher.pipeline import Backends, TeacherConfig
    from models.teacher.scripted import Truth

DETECTORS = (
    "grounding_dino", "mm_grounding_dino", "owlv2", "florence2", "grounding_dino_package", "cloud", "scripted"
)  # fmt: skip
SEGMENTERS = ("sam2", "sam2_package", "sam3", "scripted")
MATCHERS = ("phrase", "region_text", "florence2", "vlm_marks", "external", "scripted")
PARSERS = ("rules", "language_model")


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """What names the models. Scripted ones answer from the labels of the videos, and are for trials without weights."""
    add_eyes_arguments(parser)
    _add(parser, "--matcher", MATCHERS, "fits sentences to tracks; give it again for another", action="append")
    add_parser_argument(parser)


def add_parser_argument(parser: argparse.ArgumentParser) -> None:
    """What names the parser."""
    _add(parser, "--parser", PARSERS, "finds the nouns", default=PARSERS[0])


def add_eyes_arguments(parser: argparse.ArgumentParser) -> None:
    """What names the detector and the segmenter, and where they run."""
    _add(parser, "--detector", DETECTORS, "finds what nouns name", default=DETECTORS[0])
    _add(parser, "--segmenter", SEGMENTERS, "follows objects", default=SEGMENTERS[0])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def _add(parser: argparse.ArgumentParser, flag: str, names: Sequence[str], what: str, **more: Any) -> None:
    help_ = f"{what}: {', '.join(names)}; NAME=WEIGHTS takes a hub id, folder or file"
    parser.add_argument(flag, metavar="NAME[=WEIGHTS]", help=help_, **more)


def build_backends(options: argparse.Namespace, config: TeacherConfig, videos: Sequence[ReferringVideo]) -> Backends:
    """The models that the options name, loaded; scripted ones know `videos`.

    Raises InputError for a name or weights that are not there.
    """
    from models.teacher.pipeline import Backends
    from models.teacher.scripted import Truth
    from util.distributed import join_world

    device, truth = str(join_world(options.device).device), Truth(videos)
    detector = build_detector(options.detector, config.follow.detect.threshold, device, truth)
    return Backends(
        build_parser(options.parser, device),
        detector,
        build_segmenter(options.segmenter, device, truth),
        dict(_matcher(named, detector, device, truth) for named in options.matcher or MATCHERS[:1]),
    )


def build_detector(named: str, threshold: float, device: str, truth: Truth) -> Detector:
    """A detector by NAME or NAME=WEIGHTS. Raises InputError for a name or weights that are not there."""
    name, weights = _split(named, DETECTORS)
    if name in ("grounding_dino", "mm_grounding_dino"):
        from models.teacher.detect.grounding_dino import GROUNDING_DINO, MM_GROUNDING_DINO, GroundingDino

        default = GROUNDING_DINO if name == "grounding_dino" else MM_GROUNDING_DINO
        return GroundingDino(weights or default, device=device, threshold=threshold)
    if name == "owlv2":
        from models.teacher.detect.owlv2 import OWLV2, Owlv2

        return Owlv2(weights or OWLV2, device=device, threshold=threshold)
    if name == "florence2":
        from models.teacher.detect.florence import FLORENCE_2, Florence2

        return Florence2(weights or FLORENCE_2, device=device)
    if name == "grounding_dino_package":
        from models.teacher.detect.grounding_dino_package import GroundingDinoPackage

        return GroundingDinoPackage(_needed(weights, named), device=device, threshold=threshold)
    if name == "cloud":
        from models.teacher.detect.cloud import CloudDetector

        return CloudDetector(_needed(weights, named), threshold=threshold)
    from models.teacher.scripted import ScriptedDetector

    return ScriptedDetector(truth)


def build_segmenter(named: str, device: str, truth: Truth) -> VideoSegmenter:
    """A segmenter by NAME or NAME=WEIGHTS. Raises InputError for a name or weights that are not there."""
    name, weights = _split(named, SEGMENTERS)
    if name == "sam2":
        from models.teacher.segment.sam2 import DEFAULT, Sam2Segmenter

        return Sam2Segmenter.from_pretrained(weights or DEFAULT, device)
    if name == "sam2_package":
        from models.teacher.segment.sam2_package import Sam2PackageSegmenter

        return Sam2PackageSegmenter.from_pretrained(_needed(weights, named), device)
    if name == "sam3":
        from models.teacher.segment.sam3 import DEFAULT as SAM_3
        from models.teacher.segment.sam3 import Sam3Segmenter

        return Sam3Segmenter.from_pretrained(weights or SAM_3, device)
    from models.teacher.scripted import ScriptedSegmenter

    return ScriptedSegmenter(truth)


def _matcher(named: str, detector: Detector, device: str, truth: Truth) -> tuple[str, Matcher]:
    name, weights = _split(named, MATCHERS)
    if name == "phrase":
        from models.teacher.detect.grounding_dino import GROUNDING_DINO, GroundingDino
        from models.teacher.match.phrase import PhraseMatcher

        shared = isinstance(detector, GroundingDino) and weights is None
        return name, PhraseMatcher(detector if shared else GroundingDino(weights or GROUNDING_DINO, device=device))  # type: ignore[arg-type]
    if name == "region_text":
        from models.teacher.match.region_text import SIGLIP_2, RegionTextMatcher

        return name, RegionTextMatcher(weights or SIGLIP_2, device=device)
    if name == "florence2":
        from models.teacher.detect.florence import FLORENCE_2, Florence2
        from models.teacher.match.florence import FlorenceMatcher

        shared = isinstance(detector, Florence2) and weights is None
        return name, FlorenceMatcher(detector if shared else Florence2(weights or FLORENCE_2, device=device))  # type: ignore[arg-type]
    if name == "vlm_marks":
        from models.teacher.match.marks import QWEN, MarksMatcher

        return name, MarksMatcher(weights or QWEN, device=device)
    if name == "external":
        from models.teacher.match.external import ExternalMatcher

        scores, _, requests = _needed(weights, "external").partition(",")
        return name, ExternalMatcher(Path(scores), Path(_needed(requests or None, f"external={scores},REQUESTS")))
    from models.teacher.scripted import ScriptedMatcher

    return name, ScriptedMatcher(truth)


def build_parser(named: str, device: str) -> ExpressionParser:
    """A parser by NAME or NAME=WEIGHTS. Raises InputError for a name or weights that are not there."""
    name, weights = _split(named, PARSERS)
    if name == "language_model":
        from models.teacher.parser_llm import QWEN, LanguageModelParser

        return LanguageModelParser(weights or QWEN, device=device)
    from models.teacher.parser import RuleParser

    return RuleParser()


def _split(named: str, names: Sequence[str]) -> tuple[str, str | None]:
    name, _, weights = named.partition("=")
    if name not in names:
        raise InputError(f"no backend {name!r}; there are {', '.join(names)}")
    return name, weights or None


def _needed(weights: str | None, named: str) -> str:
    if weights is None:
        raise InputError(f"{named} has no weights of its own; name a file or folder: {named}=WEIGHTS")
    return weights
