"""Loading of foundation models: every key accounted for, no unpickling, licences and revisions written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from models.teacher.interfaces import ModelInfo
from models.teacher.loading import describe, licence, load_pretrained, load_processor
from tests.models.teacher.tiny_models import save_grounding_dino
from util.errors import InputError

KEY = "model.level_embed"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_grounding_dino(tmp_path_factory.mktemp("gdino"))


def changed(whole: Path, folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """A copy of the model whose weights were changed."""
    shutil.copytree(whole, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(folder: Path | str, **options: object) -> ModelInfo:
    return load_pretrained(folder, AutoModelForZeroShotObjectDetection, backend="test", **options).info  # type: ignore[arg-type]


def test_a_whole_model_loads_and_says_where_it_is_from(whole: Path) -> None:
    model, folder, info = load_pretrained(whole, AutoModelForZeroShotObjectDetection, backend="test")
    assert folder == whole and not model.training and model.dtype == torch.float32
    assert (info.backend, info.model_id, info.licence) == ("test", str(whole), "unknown")
    assert info.revision is not None and info.revision.startswith("sha256:")


def test_missing_unexpected_and_misshapen_keys_are_listed(whole: Path, tmp_path: Path) -> None:
    def spoil(weights: dict[str, Tensor]) -> None:
        del weights[KEY]
        weights["junk.weight"] = torch.zeros(3)
        weights["model.enc_output.bias"] = torch.zeros(5)

    folder = changed(whole, tmp_path / "spoiled", spoil)
    with pytest.raises(InputError) as refused:
        load(folder)
    for part in (f"1 missing: {KEY}", "1 unexpected: junk.weight", "1 of another shape: model.enc_output.bias"):
        assert part in str(refused.value)


def test_only_keys_named_as_expected_may_differ(whole: Path, tmp_path: Path) -> None:
    folder = changed(whole, tmp_path / "extra", lambda weights: weights.update({"junk.weight": torch.zeros(3)}))
    load(folder, expected=(r"^junk\.",))
    with pytest.raises(InputError, match=r"junk\.weight"):
        load(folder, expected=(r"^other\.",))


def test_the_revision_follows_the_weights(whole: Path, tmp_path: Path) -> None:
    same = shutil.copytree(whole, tmp_path / "same")
    other = changed(whole, tmp_path / "other", lambda weights: weights[KEY].add_(1))
    assert load(same).revision == load(whole).revision != load(other).revision


def test_a_hub_snapshot_is_named_by_its_commit(tmp_path: Path) -> None:
    commit = "0123456789" * 4
    folder = tmp_path / "snapshots" / commit
    folder.mkdir(parents=True)
    assert describe("IDEA-Research/grounding-dino-base", folder, "x") == ModelInfo(
        "x", "IDEA-Research/grounding-dino-base", commit, "apache-2.0"
    )


def test_a_model_behind_a_licence_is_not_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match=r"licence.*access at https://huggingface\.co/facebook/sam3"):
        load("facebook/sam3")


def test_the_licence_is_the_tables_or_the_model_cards(tmp_path: Path) -> None:
    assert licence("facebook/sam2.1-hiera-large") == "apache-2.0"
    assert licence("florence-community/Florence-2-base") == "mit"
    assert licence("someone/model") == "unknown"
    (tmp_path / "README.md").write_text("---\ntags: [x]\nlicense: cc-by-nc-4.0\n---\nlicense: mit\n")
    assert licence(str(tmp_path), tmp_path) == "cc-by-nc-4.0"


def test_what_cannot_be_loaded_is_refused_with_advice(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="teach convert"):
        load("groundingdino_swint_ogc.pth")
    with pytest.raises(InputError, match="no model at"):
        load("./nowhere")
    pickled = shutil.copytree(whole, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        load(pickled)
    odd = shutil.copytree(whole, tmp_path / "odd")
    (odd / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="holds no model"):
        load(odd)
    weights_only = shutil.copytree(whole, tmp_path / "weights_only")
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (weights_only / name).unlink()
    with pytest.raises(InputError, match="processor"):
        load_processor(weights_only, AutoProcessor)


def test_a_cut_file_is_refused(whole: Path, tmp_path: Path) -> None:
    cut = shutil.copytree(whole, tmp_path / "cut")
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        load(cut)
