"""Meta's SAM 2 files: all eight sizes key for key, and a whole file turned into a folder that answers.

sam2_keys.json.gz holds the names and shapes of the weights of the eight networks of the `sam2` package 1.1.0.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Sam2VideoModel

from models.teacher.convert.original import require_fit
from models.teacher.convert.sam2 import TRUNKS, convert_sam2, recognise, rename
from models.teacher.interfaces import Prompt
from models.teacher.segment.sam2 import Sam2Segmenter
from tests.models.teacher.tiny_sam2 import moving_square
from util.errors import InputError

FILES = {
    f"{family}_hiera_{size}": f"SAM {version} {size.replace('_plus', '+')}"
    for family, version in (("sam2", "2"), ("sam2.1", "2.1"))
    for size in TRUNKS
}


@cache
def shapes(file: str) -> dict[str, list[int]]:
    names = json.loads(gzip.decompress((Path(__file__).parent / "sam2_keys.json.gz").read_bytes()))
    return names[file]  # type: ignore[no-any-return]


def zeros(file: str) -> dict[str, Tensor]:
    return {key: torch.zeros(shape) for key, shape in shapes(file).items()}


@pytest.mark.parametrize("file", FILES)
def test_every_key_of_every_size_finds_its_place(file: str) -> None:
    with torch.device("meta"):
        original = zeros(file)
    config, name = recognise(original, file)
    with torch.device("meta"):
        ours = {key: value.shape for key, value in Sam2VideoModel(config).state_dict().items()}
    assert name == FILES[file]
    assert {key: value.shape for key, value in rename(original).items()} == ours


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    weights = {key: torch.randn(shape) * 0.02 for key, shape in shapes("sam2.1_hiera_tiny").items()}
    path = tmp_path_factory.mktemp("meta") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": weights}, path)
    return path


def test_a_file_becomes_a_folder_that_loads_strictly(small_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted"
    assert convert_sam2(small_file, out) == "SAM 2.1 tiny"
    original = torch.load(small_file, weights_only=True)["model"]
    weights = load_file(out / "model.safetensors")
    assert torch.equal(weights["no_object_pointer"], original["no_obj_ptr"])
    assert torch.equal(weights["prompt_encoder.point_embed.weight"][2:3], original[
        "sam_prompt_encoder.point_embeddings.2.weight"
    ])  # fmt: skip
    assert Sam2Segmenter.from_pretrained(out).info.licence == "apache-2.0"
    with pytest.raises(InputError, match="not empty"):
        convert_sam2(small_file, out)


@pytest.mark.parametrize("damage", ["missing", "left over", "misshapen"])
def test_what_does_not_fit_is_listed(damage: str) -> None:
    with torch.device("meta"):
        original = zeros("sam2_hiera_tiny")
    config, _ = recognise(original, "x.pt")
    weights = {key: torch.zeros(1).expand(value.shape) for key, value in rename(original).items()}
    if damage == "missing":
        del weights["no_object_pointer"]
    elif damage == "left over":
        weights["stray.weight"] = torch.zeros(3)
    else:
        weights["no_object_pointer"] = torch.zeros(1, 255)
    with pytest.raises(InputError, match=r"x\.pt was not converted(.|\n)*(no_object_pointer|stray\.weight)"):
        require_fit(lambda: Sam2VideoModel(config), weights, "x.pt")


@pytest.mark.slow
def test_a_converted_file_answers_at_its_real_size(small_file: Path, tmp_path: Path) -> None:
    convert_sam2(small_file, tmp_path / "converted")
    session = Sam2Segmenter.from_pretrained(tmp_path / "converted").open(moving_square(2))
    session.add(1, Prompt(0, box=(4, 20, 28, 40)))
    answer = session.step(1, 1)
    assert answer.mask_HW.shape == (60, 80) and np.isfinite(answer.object_score)
    assert answer.pointer_D is not None and answer.pointer_D.shape == (256,)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": {"some.weight": torch.zeros(3)}}, path)
    with pytest.raises(InputError, match="no SAM 2 checkpoint"):
        convert_sam2(path, tmp_path / "out")
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="not a checkpoint"):
        convert_sam2(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
