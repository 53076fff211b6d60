"""SAM 3 from a folder of its tracker or of all of it, its licence, and a transformers that lacks it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models.teacher.interfaces import Prompt
from models.teacher.scripted import Truth
from models.teacher.segment.sam3 import Sam3Segmenter
from scripts.teaching.backends import build_segmenter
from tests.models.teacher.tiny_sam2 import moving_square
from tests.models.teacher.tiny_sam3 import INFO, save_tiny_sam3, save_whole_sam3, tiny_network
from util.errors import InputError

VIDEO, BOX = moving_square(1), Prompt(0, box=(4.0, 20.0, 28.0, 40.0))


def test_a_folder_of_the_tracker_loads_strictly(tmp_path: Path) -> None:
    folder = save_tiny_sam3(tmp_path / "sam3")
    loaded = build_segmenter(f"sam3={folder}", "cpu", Truth([]))
    assert (loaded.info.backend, loaded.info.model_id, loaded.info.licence) == ("sam3", str(folder), "SAM License")
    read, made = (s.open(VIDEO).add(1, BOX) for s in (loaded, Sam3Segmenter(tiny_network(), INFO)))
    assert np.array_equal(read.mask_HW, made.mask_HW) and 0.01 < read.mask_HW.mean() < 0.99
    assert np.allclose(read.pointer_D, made.pointer_D, atol=1e-6)  # not to the last bit: see test_sam2.py
    weights = load_file(folder / "model.safetensors")
    del weights["tracker_model.object_pointer_proj.proj_in.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing: object_pointer_proj\.proj_in\.weight"):
        Sam3Segmenter.from_pretrained(folder)


def test_the_tracker_is_taken_out_of_a_whole_sam3(tmp_path: Path) -> None:
    whole = save_whole_sam3(tmp_path).state_dict()
    network = Sam3Segmenter.from_pretrained(tmp_path)._network
    places = {
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
        "vision_encoder.neck.": "tracker_neck.",
    }
    for key, value in network.state_dict().items():
        begin = next((begin for begin in places if key.startswith(begin)), "")
        there = whole[places.get(begin, "tracker_model.") + key.removeprefix(begin)]
        assert value.equal(there), key
    detector = load_file(tmp_path / "model.safetensors")
    save_file(
        {key: value for key, value in detector.items() if "tracker_neck" not in key}, tmp_path / "model.safetensors"
    )
    with pytest.raises(InputError, match=r"missing: vision_encoder\.neck"):
        Sam3Segmenter.from_pretrained(tmp_path)


def test_a_transformers_without_sam3_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    monkeypatch.delitem(sys.modules, "models.teacher.segment.sam3")
    with pytest.raises(InputError, match="has no SAM 3"):
        build_segmenter("sam3=folder", "cpu", Truth([]))
