"""The doctor: a healthy machine passes, each kind of trouble fails with its name, and the hub entry point loads."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from datasets.ref_youtube_vos import write_ref_youtube_vos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models import self_test
from models.checkpoint import save_segmenter
from models.ops import use_backend
from models.text_encoder import train_byte_level_tokenizer
from scripts import doctor
from tests.conftest import ROOT


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checks but those that the test brings back."""
    for name in ("packages", "devices", "self_tests", "video", "disk", "weights"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor, "data_sets", lambda given: iter(()))


def test_a_healthy_machine_passes(capsys: pytest.CaptureFixture) -> None:
    assert main.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in ("torch ", "cpu kernel pytorch", "operator on cpu", "network on cpu", "H.264", "free at", "all is"):
        assert name in printed
    assert "fail" not in printed


def test_one_failure_is_the_exit_status(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert doctor.doctor([]) == 0
    monkeypatch.setattr(doctor, "disk", lambda: iter([doctor.Check("here", "fail", "full")]))

    def broken() -> list:
        raise ImportError("libcudart.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "devices", broken)
    assert doctor.doctor([]) == 1
    printed = capsys.readouterr().out
    assert "2 failed: devices, here" in printed and "ImportError: libcudart" in printed


def test_the_operator_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert self_test.operator_error("cpu") < 1e-6
    right = self_test.deformable_attention
    monkeypatch.setattr(self_test, "deformable_attention", lambda v, s, loc, w: right(v, s, loc + 1e-3, w))
    assert self_test.operator_error("cpu") > self_test.OPERATOR_TOLERANCE


def test_the_network_gives_the_stored_sums() -> None:
    assert self_test.network_error("cpu") < 2e-5


def test_the_network_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid_sample that is half a pixel off, as with align_corners, is seen; so is a NaN."""
    right = torch.nn.functional.grid_sample
    with monkeypatch.context() as patch, use_backend("pytorch"):
        patch.setattr("models.ops.paths.F.grid_sample",
                      lambda *a, **k: right(*a, **{**k, "align_corners": True}))  # fmt: skip
        assert self_test.network_error("cpu") > self_test.NETWORK_TOLERANCE
    with monkeypatch.context() as patch:
        patch.setattr(self_test, "network_error", lambda device: float("nan"))
        states = {check.name: check.state for check in doctor.self_tests()}
    assert states["network on cpu"] == "fail" and states["operator on cpu"] == "ok"


def test_every_weight_of_the_self_test_follows_from_its_key() -> None:
    first, second = self_test.seeded_network(), self_test.seeded_network()
    for (key, value), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(value, other), key


def test_missing_packages_fail_and_optional_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    right = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("av", "sam2"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1.0" if name == "tqdm" else right(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    checks = {check.name: check for check in doctor.packages()}
    assert checks["av"].state == "fail" and "pip install" in checks["av"].detail
    assert checks["sam2"].state == "note" and "tested with" in checks["tqdm"].detail


def test_a_full_disk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))
    for free, state in ((5e8, "fail"), (5e9, "note"), (5e11, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10**12, 0, int(free)))
        assert {check.state for check in doctor.disk()} == {state}


def test_damaged_weights_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert [check.state for check in doctor.weights()] == ["note"]
    network = self_test.seeded_network()
    save_segmenter(network, tmp_path / "pretrained_weights" / "good")
    shutil.copytree(tmp_path / "pretrained_weights" / "good", tmp_path / "pretrained_weights" / "poor")
    with (tmp_path / "pretrained_weights" / "poor" / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    good, poor = doctor.weights()
    assert (good.state, poor.state) == ("ok", "fail") and "tracking feature, protocol corrected" in good.detail


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "ref-youtube-vos"
    videos = SyntheticVideos(SyntheticConfig(seed=3, videos=2, frames=2, height=32, width=48))
    write_ref_youtube_vos(videos, root, "train")
    return root


@pytest.mark.parametrize("through", ["flag", "parent", "environment"])
def test_data_is_found_and_opened(tree: Path, monkeypatch: pytest.MonkeyPatch, through: str) -> None:
    if through == "environment":
        monkeypatch.setenv("REFERTRACK_DATA", f"{tree}{os.pathsep}{tree.parent}")
    given = {"flag": [tree], "parent": [tree.parent], "environment": []}[through]
    checks = list(doctor.data_sets(given))
    assert {check.name for check in checks} == {"ref_youtube_vos train"}
    assert all(check.state == "ok" and "2 videos with masks, the first 48x32" in check.detail for check in checks)


def test_broken_data_fails(tree: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tree, tmp_path / "copy"))
    video = sorted((copy / "train" / "JPEGImages").iterdir())[0]
    sorted(video.glob("*.jpg"))[0].write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    states = [check.state for check in doctor.data_sets([copy, tmp_path / "absent", tmp_path / "empty"])]
    assert states == ["fail", "fail", "fail"]


def test_torch_hub_loads_a_checkpoint_from_another_folder(tmp_path: Path) -> None:
    folder = save_segmenter(self_test.seeded_network(), tmp_path / "weights").parent
    train_byte_level_tokenizer(["a red ball"], folder / "tokenizer.json", 270)
    program = f"""
import torch
network = torch.hub.load({str(ROOT)!r}, "refertrack", source="local", weights={str(folder)!r})
assert not network.training
print(tuple(network.encode_text(["a red ball", "a cube"]).sentence_BEC.shape))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 2, 64)"
