"""Checkpoints: what is written comes back; what does not fit is refused and named; released files convert."""

from __future__ import annotations

import argparse
import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import main
from models import checkpoint as checkpoint_module
from models import released
from models.backbone import BackboneConfig
from models.checkpoint import convert_released, initialise, load_segmenter, read_info, save_segmenter
from models.fitting import empty_segmenter, fit
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig, build_tokenizer, train_byte_level_tokenizer
from tests.conftest import shared
from util.errors import InputError
from util.protocol import PUBLISHED

ARCH = {**ROBERTA_BASE, "vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 64, "max_position_embeddings": 40}  # fmt: skip
TINY = SegmenterConfig(
    backbone=BackboneConfig(name="tiny", norm="group"),
    text=TextEncoderConfig(name="none", arch=ARCH),
    hidden_dim=64,
    encoder_layers=1,
    decoder_layers=2,
    feedforward=64,
    tracking="feature",
    time=True,
    presence=True,
)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_byte_level_tokenizer(["a red ball", "the blue cube"] * 3, folder / "tokenizer.json", 300)
    return folder


@pytest.fixture(scope="module")
def tiny(tokenizer_folder: Path) -> Segmenter:
    torch.manual_seed(3)
    return Segmenter(TINY, tokenizer=build_tokenizer(TINY.text, search=tokenizer_folder)).eval()


@pytest.fixture(scope="module")
def saved(tiny: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_segmenter(tiny, folder, extra={"steps": 7, "inference": {"window": 3}})
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def damage(folder: Path, change) -> None:  # type: ignore[no-untyped-def]
    """Rewrite the weights after `change(weights, metadata)`."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    change(weights, metadata)
    save_file(weights, path, metadata=metadata)


def predict(segmenter: Segmenter, sentences: list[str]) -> Tensor:
    frames = torch.randn(1, 2, 3, 32, 48, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        return segmenter(segmenter.encode_video(frames), segmenter.encode_text([sentences])).masks_BETQhw


@pytest.mark.parametrize("as_file", [False, True])
def test_a_round_trip_changes_nothing(tiny: Segmenter, saved: Path, as_file: bool) -> None:
    loaded = load_segmenter(saved / "model.safetensors" if as_file else str(saved))
    assert not loaded.training and loaded.config.protocol == TINY.protocol
    assert replace(loaded.config, text=TINY.text) == TINY and loaded.config.text.arch["vocab_size"] == 300
    ours = tiny.state_dict()
    assert ours.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, ours[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(predict(loaded, ["a red ball", "球"]), predict(tiny, ["a red ball", "球"]))
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in tiny.parameters()]


def test_a_training_folder_is_a_checkpoint_too(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(saved)
    assert read_info(tmp_path).extra["steps"] == 7


def test_facts_are_read_without_the_weights(saved: Path) -> None:
    info = read_info(saved)
    assert info.extra == {"steps": 7, "inference": {"window": 3}} and info.config.tracking == "feature"
    assert sorted(p.name for p in saved.iterdir()) == ["model.safetensors", "tokenizer.json"]


def test_half_precision_halves_the_file_and_comes_back_as_float32(tiny: Segmenter, saved: Path, tmp_path: Path) -> None:
    path = save_segmenter(tiny, tmp_path, dtype=torch.float16)
    assert path.stat().st_size < 0.6 * (saved / "model.safetensors").stat().st_size
    loaded = load_segmenter(tmp_path)
    for key, value in tiny.state_dict().items():
        assert loaded.state_dict()[key].dtype == value.dtype
        assert torch.equal(loaded.state_dict()[key], value.half().float() if value.is_floating_point() else value)


def test_index_tables_keep_their_integers(tmp_path: Path) -> None:
    table = torch.arange(2537).view(1, -1)
    path = checkpoint_module.write_checkpoint({"index": table, "x": torch.ones(2)}, TINY, tmp_path, None,
                                              dtype=torch.float16)  # fmt: skip
    stored = load_file(path)
    assert torch.equal(stored["index"], table) and stored["index"].dtype == torch.int64
    assert stored["x"].dtype == torch.float16
    assert fit({"index": table, "x": torch.ones(2)}, stored).problems() == []
    altered = fit({"index": table + 1, "x": torch.ones(2)}, stored)
    assert altered.altered == ("index",) and "index tables that differ" in altered.problems()[0]


@pytest.mark.parametrize("backbone", ["swin_t", "video_swin_t"])
def test_a_network_without_draws_has_its_index_tables(backbone: str) -> None:
    config = replace(TINY, backbone=BackboneConfig(name=backbone))
    before = torch.get_rng_state()
    empty = empty_segmenter(config).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    drawn = Segmenter(config).state_dict()
    tables = [key for key in drawn if not drawn[key].is_floating_point()]
    assert len(tables) == 12 and all(torch.equal(empty[key], drawn[key]) for key in tables)
    buffers = [dict(network.named_buffers()) for network in (empty_segmenter(config), Segmenter(config))]
    assert buffers[0].keys() == buffers[1].keys()
    assert all(torch.equal(value, buffers[1][key]) for key, value in buffers[0].items())


def test_every_misfit_is_listed(copy: Path) -> None:
    def change(weights: dict[str, Tensor], _: dict) -> None:
        for key in [key for key in weights if key.startswith("text_encoder.")]:
            del weights[key]
        weights["surplus.weight"] = torch.zeros(2)
        weights["query_embed.weight"] = torch.zeros(6, 64)

    damage(copy, change)
    with pytest.raises(InputError) as error:
        load_segmenter(copy)
    text = str(error.value)
    assert "23 missing: text_encoder.embeddings.word_embeddings.weight, " in text and "and 3 more" in text
    assert "1 unexpected: surplus.weight" in text and "convert it again" in text
    assert "1 of another shape: query_embed.weight [6, 64] instead of [5, 64]" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_refused_by_name(copy: Path, tiny: Segmenter, tmp_path: Path, value: float) -> None:
    damage(copy, lambda weights, _: weights["class_embed.1.bias"].fill_(value))
    with pytest.raises(InputError, match=r"1 with NaN or infinite values: class_embed\.1\.bias"):
        load_segmenter(copy)
    broken = {**tiny.state_dict(), "class_embed.1.bias": torch.tensor([value])}
    with pytest.raises(InputError, match=r"not saved.*class_embed\.1\.bias"):
        checkpoint_module.write_checkpoint(broken, TINY, tmp_path / "x", None)
    large = {**tiny.state_dict(), "class_embed.1.bias": torch.tensor([1e6])}
    with pytest.raises(InputError, match=r"class_embed\.1\.bias has values up to 1e\+06, too large for torch\.float16"):
        checkpoint_module.write_checkpoint(large, TINY, tmp_path / "x", None, dtype=torch.float16)


def test_files_that_are_no_checkpoint_get_one_clear_error(copy: Path, tmp_path: Path) -> None:
    def refused(source: Path, match: str) -> None:
        with pytest.raises(InputError, match=match):
            load_segmenter(source)

    refused(tmp_path / "absent.pth", "no folder here")
    refused(tmp_path, r"holds no model\.safetensors")
    (tmp_path / "text.pth").write_text("hello")
    refused(tmp_path / "text.pth", "as a torch file")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "no ReferTrack config")
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(copy, "cut short")
    (copy / "model.safetensors").write_bytes(b"")
    refused(copy, "cut short")


def test_newer_formats_and_configs_are_refused(copy: Path) -> None:
    damage(copy, lambda _, metadata: metadata.update(version="2"))
    with pytest.raises(InputError, match="newer than this program's 1"):
        load_segmenter(copy)
    config = json.dumps({"hovering": True})
    damage(copy, lambda _, metadata: metadata.update(version="1", config=config))
    with pytest.raises(InputError, match="unknown config key 'hovering'"):
        load_segmenter(copy)


def test_the_tokenizer_belongs_to_the_weights(copy: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    train_byte_level_tokenizer(["some other words"] * 9, copy / "tokenizer.json", 300)
    with pytest.raises(InputError, match="not the tokenizer these weights"):
        load_segmenter(copy)
    assert load_segmenter(copy, text_encoder=str(tokenizer_folder)).tokenizer is not None
    (copy / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json is missing.*--text-encoder"):
        load_segmenter(copy)


def test_a_failed_write_leaves_the_earlier_checkpoint(
    tiny: Segmenter, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(InputError, match=r"No space left on device.*free space"):
        save_segmenter(tiny, copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_hub_id_is_fetched_as_a_folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot(repo: str, allow_patterns: list[str]) -> str:
        asked.append((repo, sorted(allow_patterns)))
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load_segmenter("someone/refertrack-v1.5").config.presence
    assert asked == [("someone/refertrack-v1.5", ["model.safetensors", "tokenizer.json"])]


def test_an_offline_hub_id_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="hub cannot be reached and its cache lacks it"):
        load_segmenter("someone/absent")


def test_tied_text_embeddings_are_stored_once(tmp_path: Path, tokenizer_folder: Path) -> None:
    arch = {"model_type": "t5", "vocab_size": 300, "d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 1}
    config = replace(TINY, text=TextEncoderConfig(name="none", arch={**arch, "num_heads": 4}))
    network = Segmenter(config, tokenizer=build_tokenizer(config.text, search=tokenizer_folder)).eval()
    path = save_segmenter(network, tmp_path)
    assert sum(v.shape == (300, 64) for v in load_file(path).values()) == 1
    assert torch.equal(predict(load_segmenter(tmp_path), ["a cube"]), predict(network, ["a cube"]))


def test_training_can_start_from_a_smaller_network(saved: Path, tmp_path: Path, tokenizer_folder: Path) -> None:
    plain = replace(TINY, time=False, presence=False, tracking="none")
    network = Segmenter(plain, tokenizer=build_tokenizer(plain.text, search=tokenizer_folder))
    save_segmenter(network, tmp_path)
    grown = Segmenter(replace(TINY, classes=3))
    fresh = {key: value.clone() for key, value in grown.state_dict().items()}
    report = initialise(grown, tmp_path)
    assert {key.split(".")[0] for key in report.kept} == {"class_embed", "presence_head", "temporal"}
    for key, value in grown.state_dict().items():
        assert torch.equal(value, fresh[key] if key in report.kept else network.state_dict()[key])
    same_head = initialise(Segmenter(TINY), tmp_path, reset_class_head=True)
    assert "class_embed.0.weight" in same_head.kept and "class_embed" in str(same_head)
    assert initialise(Segmenter(TINY), saved).kept == ()
    with pytest.raises(InputError, match="26 unexpected: presence_head"):
        initialise(Segmenter(plain), saved)


# Released files -------------------------------------------------------------------------------------------------------

RELEASED = replace(
    TINY, backbone=BackboneConfig(name="resnet50"), tracking="none", time=False, presence=False, encoder_layers=2,
    protocol=PUBLISHED,
)  # fmt: skip
ARGUMENTS = {"backbone": "resnet50", "num_frames": 5, "num_queries": 5, "enc_layers": 2, "dec_layers": 2, "nheads": 8,
             "hidden_dim": 64, "dim_feedforward": 64, "rel_coord": True, "dropout": 0.1, "with_box_refine": True,
             "freeze_text_encoder": True, "dilation": False, "lr_drop": [3, 5], "output_dir": "x"}  # fmt: skip


@pytest.fixture(scope="module")
def released_network() -> Segmenter:
    torch.manual_seed(4)
    return Segmenter(RELEASED).eval()


def released_content(network: Segmenter, **arguments: object) -> dict:
    """A file's content as training by the released code leaves it."""
    model = dict(network.state_dict())
    for key in [key for key in model if key.startswith("bbox_embed.")]:
        model[f"transformer.decoder.{key}"] = model[key]
    model["text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    model["transformer.encoder.total_params"] = torch.zeros(1, dtype=torch.float64)
    model["total_ops"] = torch.zeros(1, dtype=torch.float64)
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter], lr=1e-4)
    parameter.sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    return {"model": model, "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict(), "epoch": 4,
            "args": argparse.Namespace(**{**ARGUMENTS, **arguments})}  # fmt: skip


@pytest.fixture(scope="module")
def released_file(released_network: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "ytvos_r50.pth"
    torch.save(released_content(released_network), path, _use_new_zipfile_serialization=False)
    return path


def test_a_released_file_converts_key_for_key(released_file: Path, released_network: Segmenter) -> None:
    config, weights, report = convert_released(released_file)
    expected = replace(RELEASED, text=TextEncoderConfig(arch=config.text.arch, freeze=True))
    assert config == expected and config.text.arch == ARCH
    ours = released_network.state_dict()
    assert weights.keys() == ours.keys() and all(torch.equal(weights[key], ours[key]) for key in ours)
    assert set(report.loaded) == set(ours) and not (report.renamed or report.missing or report.unexpected)
    assert len(report.dropped) == 12 + 1 + 2 and report.notes == ()
    assert report.facts == {"converted_from": "ytvos_r50.pth", "clip_frames": 5, "epoch": 4}
    assert "12 aliases of bbox_embed" in str(report) and f"loaded      {len(ours)}" in str(report)


def test_a_released_file_loads_directly_and_gives_the_same_masks(
    released_file: Path, released_network: Segmenter, tokenizer_folder: Path
) -> None:
    loaded = load_segmenter(released_file, text_encoder=str(tokenizer_folder), tracking="rgb")
    assert loaded.config.tracking == "rgb" and loaded.config.protocol == PUBLISHED
    frames = torch.randn(1, 1, 3, 32, 32)
    ids, mask = torch.tensor([[0, 7, 8, 2]]), torch.ones(1, 4, dtype=torch.long)
    with torch.inference_mode():
        masks = [n(n.encode_video(frames), n.encode_tokens(ids, mask, 1)).masks_BETQhw
                 for n in (loaded, released_network)]  # fmt: skip
    assert torch.equal(*masks)


def test_convert_writes_a_folder_that_loads(
    released_file: Path, tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["convert", str(released_file), str(tmp_path / "out"), "--tracking", "rgb"]
    assert main.main([*arguments, "--text-encoder", str(tokenizer_folder)]) == 0
    printed = capsys.readouterr().out
    assert "tracking rgb, protocol published" in printed and "missing       0" in printed
    assert load_segmenter(tmp_path / "out").config.tracking == "rgb"
    extra = read_info(tmp_path / "out").extra
    assert extra["clip_frames"] == 5 and len(extra["sha256"]) == 64
    listed = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert len(listed["loaded"]) > 300 and len(listed["dropped"]) == 15

    assert main.main([*arguments[:2], str(tmp_path / "bare")]) == 0
    assert "to work offline" in capsys.readouterr().out
    assert not (tmp_path / "bare" / "tokenizer.json").exists()
    assert main.main([*arguments, "--text-encoder", str(tmp_path / "nowhere")]) == 2
    assert "no tokenizer at" in capsys.readouterr().err


def rewrite(network: Segmenter, path: Path, change, **arguments: object) -> Path:  # type: ignore[no-untyped-def]
    content = released_content(network, **arguments)
    # One stored number per backbone tensor: these tests are about the others, and 94 MB a file are slow.
    for key, value in content["model"].items():
        if key.startswith("backbone."):
            content["model"][key] = torch.zeros(1).expand(value.shape)
    change(content)
    torch.save(content, path)
    return path


def test_a_released_file_that_does_not_fit_is_refused(released_network: Segmenter, tmp_path: Path) -> None:
    def refused(match: str, change=lambda content: None, **arguments: object) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(InputError, match=match):
            convert_released(rewrite(released_network, tmp_path / "x.pth", change, **arguments))

    refused(r"1 missing: resizer\.fc\.bias", lambda c: c["model"].pop("resizer.fc.bias"))
    refused(r"1 unexpected: surplus", lambda c: c["model"].update(surplus=torch.zeros(1)))
    refused(
        r"1 with NaN.*resizer\.fc\.bias", lambda c: c["model"].update({"resizer.fc.bias": torch.full((64,), torch.nan)})
    )
    alias = "transformer.decoder.bbox_embed.1.layers.2.bias"
    refused(f"{alias} is not equal", lambda c: c["model"].update({alias: torch.ones(4)}))
    refused("no ReferFormer or TF-RVOS checkpoint", lambda c: c["model"].pop("query_embed.weight"))
    refused("fits no mask head", lambda c: c["model"].update({"controller.layers.2.weight": torch.zeros(9, 64)}))
    refused("with_box_refine=False", with_box_refine=False)
    refused("dilation=True", dilation=True)


def test_shapes_beat_arguments_and_defaults_fill_in(released_network: Segmenter, tmp_path: Path) -> None:
    path = rewrite(released_network, tmp_path / "x.pth", lambda c: None, backbone="swin_t_p4w7", num_queries=8)
    config, _, report = convert_released(path)
    assert config.backbone.name == "resnet50" and config.queries == 5
    assert [note.split(" ")[3] for note in report.notes] == ["num_queries=8,", "backbone=swin_t,"]
    bare = {
        f"module.{key}": value.half() if value.ndim < 4 else torch.zeros(1).expand(value.shape)
        for key, value in released_network.state_dict().items()
    }
    torch.save(bare, tmp_path / "bare.pth")
    config, weights, report = convert_released(tmp_path / "bare.pth")
    assert config.text.freeze is False and "no training arguments" in report.notes[0]
    assert len(report.renamed) == len(weights) and all(v.dtype == torch.float32 for v in weights.values())


def test_the_controller_tells_whether_coordinates_are_relative(tmp_path: Path) -> None:
    """2,153 numbers per query with relative coordinates and 2,137 without, at the released width (spec 9)."""
    config = replace(RELEASED, hidden_dim=256, rel_coord=False)
    network = empty_segmenter(config)
    assert network.controller.layers[2].weight.shape == (2137, 256)
    converted, _, _ = convert_released(
        rewrite(network, tmp_path / "x.pth", lambda c: None, rel_coord=False, hidden_dim=256)
    )
    assert converted.rel_coord is False


class Harm:
    """Would create a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_released_file_is_run(released_network: Segmenter, tmp_path: Path, legacy: bool) -> None:
    content = {"model": {"query_embed.weight": torch.zeros(5, 64)}, "args": Harm(tmp_path / "harmed")}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match="asks for code to be run"):
        convert_released(tmp_path / "x.pth")
    assert not (tmp_path / "harmed").exists()


# The nine released architectures --------------------------------------------------------------------------------------

COUNTS = {  # backbone -> (its parameters, everything but it and RoBERTa, its state entries): spec 3.2, 13.1, 13.2
    "resnet50": (23_454_912, 28_161_663, 265),
    "resnet101": (42_394_816, 28_161_663, 520),
    "swin_t": (27_520_698, 24_598_143, 189),
    "swin_s": (48_838_602, 24_598_143, 357),
    "swin_b": (86_745_016, 25_310_847, 357),
    "swin_l": (194_998_164, 26_736_255, 357),
    "video_swin_t": (27_844_326, 24_598_143, 181),
    "video_swin_s": (49_502_934, 24_598_143, 349),
    "video_swin_b": (87_630_792, 25_310_847, 349),
}


@functools.cache
def on_meta(backbone: str, freeze: bool = False) -> Segmenter:
    config = SegmenterConfig(backbone=BackboneConfig(name=backbone), text=TextEncoderConfig(freeze=freeze))
    with torch.device("meta"):
        return Segmenter(config)


@pytest.mark.parametrize("backbone", COUNTS)
def test_parameter_counts_are_the_published_ones(backbone: str) -> None:
    network = on_meta(backbone)
    body, text = network.backbone, network.text_encoder
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in (("body", body), ("text", text))}
    total = sum(p.numel() for p in network.parameters())
    assert (sizes["body"], total - sum(sizes.values()), len(body.state_dict())) == COUNTS[backbone]
    assert sizes["text"] == 124_645_632 and len(network.state_dict()) == 316 + COUNTS[backbone][2] + 199


@pytest.mark.parametrize("backbone", COUNTS)
def test_shapes_name_the_backbone_and_the_text_encoder(backbone: str) -> None:
    weights = on_meta(backbone).state_dict()
    config, notes = released.deduce(weights, {}, "x.pth", "none", None)
    assert config.backbone.name == backbone and config.text.arch == ROBERTA_BASE and len(notes) == 1
    assert replace(config, backbone=BackboneConfig(), text=TextEncoderConfig()) == SegmenterConfig(protocol=PUBLISHED)


def test_r50_trains_what_the_release_trains() -> None:
    network = on_meta("resnet50", freeze=True)
    assert sum(p.numel() for p in network.parameters()) == 176_262_207
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 51_394_175
    assert sum(p.numel() for p in network.backbone.parameters() if p.requires_grad) == 23_232_512


FILES = {name.replace("resnet", "r"): name for name in COUNTS}


@pytest.mark.parametrize("short", FILES)
def test_keys_shapes_and_types_are_the_released_ones(short: str) -> None:
    rows = shared("oracles", "referformer", f"keys_{short}.txt").read_text().splitlines()
    expected = {}
    for key, shape, dtype, kind in (row.split() for row in rows if not row.startswith("#")):
        if kind != "a":
            expected[key] = (shape, dtype)
    ours = {
        key: ("x".join(map(str, value.shape)), str(value.dtype).removeprefix("torch."))
        for key, value in on_meta(FILES[short]).state_dict().items()
    }
    assert ours == expected
