"""`main.py teach florence`: Florence-2's tasks on one image; regions that it names are cut out by a segmenter."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.teaching.backends import SEGMENTERS, build_segmenter
from util.errors import InputError

HELP = "caption an image, find and cut out what it shows, with Florence-2"

# Plain names, so that help is printed without importing torch; a test compares them with models/teacher/detect
TASKS = (
    "caption", "detailed_caption", "more_detailed_caption", "ocr", "ocr_with_region", "od", "dense_region_caption",
    "region_proposal", "caption_to_phrase_grounding", "referring_expression_segmentation", "open_vocabulary_detection",
    "region_to_segmentation", "region_to_category", "region_to_description", "region_to_ocr",
)  # fmt: skip
CAPTIONS = TASKS[:3]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="image file")
    parser.add_argument(
        "--task", choices=TASKS, default="caption_to_phrase_grounding",
        help="what to do; phrase grounding without --text grounds a caption that it makes first (the default)",
    )  # fmt: skip
    parser.add_argument("--text", default="", help="what a task needs: a phrase, or a caption")
    parser.add_argument("--region", metavar="X0,Y0,X1,Y1", help="what a task needs: a box in pixels")
    parser.add_argument("--caption", choices=CAPTIONS, default=CAPTIONS[0], help="how long a caption to make")
    parser.add_argument("--florence", metavar="WEIGHTS", help="hub id or folder of Florence-2")
    parser.add_argument(
        "--segmenter", metavar="NAME[=WEIGHTS]", default=SEGMENTERS[0], help=f"cuts out: {', '.join(SEGMENTERS)}"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, help="folder for the results (default: output/ and the image's name)")


def run(options: argparse.Namespace) -> int:
    """Ask, cut out, draw, write. Raises InputError for a bad image, task, model or folder."""
    from datasets.video import open_video
    from models.teacher.detect.florence import FLORENCE_2, Florence2
    from models.teacher.image import describe_image, made_by, segment_regions, write_image
    from models.teacher.scripted import Truth
    from util.distributed import join_world

    image_HW3 = open_video(options.image)[0]
    region = None if options.region is None else read_region(options.region)
    device = str(join_world(options.device).device)
    florence = Florence2(options.florence or FLORENCE_2, device=device)
    caption = None
    if options.task == "caption_to_phrase_grounding" and not options.text:
        caption, answer = florence.ground_caption(image_HW3, options.caption)
        print(f"caption: {caption}")
    else:
        answer = florence.run(image_HW3, options.task, text=options.text, region=region)
    print(answer.text or "no answer")
    things, cut_by = [], None
    if answer.regions:
        segmenter = build_segmenter(options.segmenter, device, Truth([]))
        things, cut_by = segment_regions(image_HW3, answer.regions, segmenter), segmenter.info
    asked = {"task": options.task, "text": options.text, "region": options.region, "answer": answer.text}
    model = made_by(florence.info, cut_by, **asked)
    described = describe_image(str(options.image), image_HW3.shape[:2], things, model, caption)
    written = write_image(options.out or Path("output") / Path(options.image).stem, image_HW3, described, things)
    print("\n" + "\n".join(str(path) for path in written))
    return 0


def read_region(text: str) -> tuple[float, float, float, float]:
    """A box from X0,Y0,X1,Y1. Raises InputError for anything else."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--region {text!r} is no box; give X0,Y0,X1,Y1 in pixels") from None
    if not (left < right and top < bottom):
        raise InputError(f"--region {text!r} is empty; give X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1")
    return left, top, right, bottom
