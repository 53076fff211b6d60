"""SAM 2 from a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models.teacher.interfaces import Prompt
from models.teacher.segment.sam2 import Sam2Segmenter
from tests.models.teacher.tiny_sam2 import INFO, moving_square, save_tiny_sam2, tiny_network
from util.errors import InputError

VIDEO, BOX = moving_square(1), Prompt(0, box=(4.0, 20.0, 28.0, 40.0))


def test_a_folder_loads_strictly(tmp_path: Path) -> None:
    folder = save_tiny_sam2(tmp_path / "sam2")
    loaded = Sam2Segmenter.from_pretrained(folder)
    assert loaded.info.backend == "sam2" and str(loaded.info.revision).startswith("sha256:")
    read, made = (s.open(VIDEO).add(1, BOX) for s in (loaded, Sam2Segmenter(tiny_network(), INFO)))
    assert np.array_equal(read.mask_HW, made.mask_HW)
    # not to the last bit: a file that is mapped lies otherwise in memory, and matrix products then add otherwise
    assert np.allclose(read.pointer_D, made.pointer_D, atol=1e-6)
    weights = load_file(folder / "model.safetensors")
    del weights["object_pointer_proj.proj_in.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing: object_pointer_proj\.proj_in\.weight"):
        Sam2Segmenter.from_pretrained(folder)
