"""Grounding DINO 1.5, 1.6 and DINO-X behind DeepDataSpace's API: a plug-in that runs only where it is asked for.

Every image it is shown and every noun leave the machine; the weights are closed, each noun of each image is a paid
call that sends the image again, and the service's terms decide what may be done with the labels. Needs
`pip install dds-cloudapi-sdk` (0.5.3) and a token in DDS_API_TOKEN.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.teacher.detect.boxes import clip_box, sort_by_score, suppress
from models.teacher.detect.phrases import clean_phrase
from models.teacher.interfaces import Detection, ModelInfo
from util.drawing import save_image
from util.errors import InputError

TOKEN = "DDS_API_TOKEN"
LICENCE = "closed weights, terms of the DeepDataSpace API"
PATHS = {  # model -> where it is called
    "GroundingDino-1.5-Pro": "/v2/task/grounding_dino/detection",
    "GroundingDino-1.6-Pro": "/v2/task/grounding_dino/detection",
    "DINO-X-1.0": "/v2/task/dinox/detection",
}


class Service(Protocol):
    """The one call that is made of the API."""

    def ask(self, path: str, body: Mapping[str, Any], image: Path) -> Sequence[Mapping[str, Any]]:
        """Run a task on an image file; the answer is its objects with `bbox` (xyxy in pixels), `score`, `category`."""
        ...


class CloudDetector:
    """A `Detector`; `model` is one of `PATHS`.

    threshold  least score; iou  above which two boxes of one noun are one; service  another than the real one
    """

    def __init__(self, model: str, *, threshold: float = 0.2, iou: float = 0.8, service: Service | None = None) -> None:
        """Says on standard error what will leave the machine. Raises InputError for an unknown model or no token."""
        if model not in PATHS:
            raise InputError(f"no cloud model {model!r}; there are {', '.join(PATHS)}")
        self.model, self.threshold, self.iou = model, threshold, iou
        self.service = service or _DeepDataSpace()
        print(
            f"{model} is a cloud service: every image that is searched and every noun are sent to DeepDataSpace, and "
            "each noun of each image is a paid call",
            file=sys.stderr,
        )

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("cloud", self.model, None, LICENCE)

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes of every noun, the most certain first; what the service called a thing is `phrase`."""
        if not nouns:
            return []
        height, width = image_HW3.shape[:2]
        found = []
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "image.png"
            save_image(image, image_HW3)
            for noun in nouns:
                body = {
                    "model": self.model,
                    "prompt": {"type": "text", "text": f"{clean_phrase(noun)}."},
                    "targets": ["bbox"],
                    "bbox_threshold": self.threshold,
                    "iou_threshold": self.iou,
                }
                for thing in self.service.ask(PATHS[self.model], body, image):
                    box = clip_box(thing["bbox"], height, width)
                    if box is not None:
                        found.append(Detection(box, float(thing["score"]), noun, str(thing.get("category", ""))))
        return sort_by_score(suppress(found, self.iou))


class _DeepDataSpace:
    """The real service, by its own package."""

    def __init__(self) -> None:
        token = os.environ.get(TOKEN)
        if not token:
            raise InputError(f"the cloud detector needs a token; put it into the environment variable {TOKEN}")
        try:
            from dds_cloudapi_sdk import Client, Config
            from dds_cloudapi_sdk.tasks.v2_task import create_task_with_local_image_auto_resize
        except ImportError as error:
            raise InputError(
                f"the cloud detector needs `pip install dds-cloudapi-sdk` ({error}); or use --detector grounding_dino"
            ) from error
        self._client, self._task = Client(Config(token)), create_task_with_local_image_auto_resize

    def ask(self, path: str, body: Mapping[str, Any], image: Path) -> Sequence[Mapping[str, Any]]:
        task = self._task(path, dict(body), str(image))
        self._client.run_task(task)
        return list((task.result or {}).get("objects") or [])
