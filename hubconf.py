"""torch.hub entry points: `torch.hub.load(FOLDER_OF_THIS_FILE, "refertrack", source="local", weights=...)`.

Released ReferFormer and TF-RVOS files, our checkpoints and hub ids all load, as in `main.py segment --weights`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

dependencies = ["torch", "torchvision", "transformers", "tokenizers", "safetensors", "huggingface_hub", "yaml"]

_ROOT = Path(__file__).resolve().parent
# torch.hub takes the folder off the path again after this file is read, and later imports need it.
if str(_ROOT) not in sys.path:
    sys.path.append(str(_ROOT))


def refertrack(weights: str | None = None, **options: Any) -> Any:
    """A `models.segmenter.Segmenter` in eval mode.

    weights: folder, .safetensors, released .pth or hub id (None: the demo's own checkpoint); `options` are those of
    `models.checkpoint.load_segmenter`: text_encoder, tracking, device. Raises util.errors.InputError.
    """
    from models.checkpoint import load_segmenter

    return load_segmenter(weights or _ROOT / "pretrained_weights" / "tiny", **options)
