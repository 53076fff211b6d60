"""`main.py teach image`: find and cut out what nouns name in one image."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.teaching.backends import add_eyes_arguments, build_detector, build_segmenter
from util.errors import InputError

HELP = "find and cut out what words name in an image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="image file")
    parser.add_argument("--text", required=True, metavar="'CAR. TYRE.'", help="what to look for, each with a full stop")
    parser.add_argument("--threshold", type=float, default=0.4, help="least score of a box (0.4)")
    parser.add_argument(
        "--slice", type=int, metavar="PIXELS", help="look in overlapping tiles of this size too, for small things"
    )
    parser.add_argument("--overlap", type=float, default=0.2, help="of neighbouring tiles (0.2)")
    add_eyes_arguments(parser)
    parser.add_argument("--out", type=Path, help="folder for the results (default: output/ and the image's name)")


def run(options: argparse.Namespace) -> int:
    """Find, cut out, draw, write. Raises InputError for a bad image, noun, model or folder."""
    from datasets.video import open_video
    from models.teacher.detect.sliced import SlicedDetector
    from models.teacher.image import describe_image, made_by, segment_image, write_image
    from models.teacher.scripted import Truth
    from util.distributed import join_world

    nouns = [noun.strip() for noun in options.text.split(".") if noun.strip()]
    if not nouns:
        raise InputError("--text names nothing; give nouns with full stops, such as 'car. tyre.'")
    if options.slice is not None and (options.slice < 32 or not 0 <= options.overlap < 1):
        raise InputError("--slice needs 32 pixels or more, and --overlap 0 or more and less than 1")
    image_HW3 = open_video(options.image)[0]
    device = str(join_world(options.device).device)
    detector = build_detector(options.detector, options.threshold, device, Truth([]))
    if options.slice is not None:
        detector = SlicedDetector(detector, size=options.slice, overlap=options.overlap)
    segmenter = build_segmenter(options.segmenter, device, Truth([]))
    things = segment_image(image_HW3, detector, nouns, segmenter)
    settings = {"text": options.text, "threshold": options.threshold, "slice": options.slice}
    model = made_by(detector.info, segmenter.info, **settings)
    described = describe_image(str(options.image), image_HW3.shape[:2], things, model)
    written = write_image(options.out or Path("output") / Path(options.image).stem, image_HW3, described, things)
    print("\n".join(f"{thing.name} {thing.score:.2f}" for thing in things) or "nothing was found")
    print("\n" + "\n".join(str(path) for path in written))
    return 0
