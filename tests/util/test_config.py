"""util/config.py: what a YAML file can say, what it is refused for, and the round trip through plain dicts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from util.config import changed_keys, from_dict, load_config, to_dict
from util.errors import InputError
from util.protocol import CORRECTED, PUBLISHED, Protocol


@dataclass(frozen=True)
class Source:
    kind: Literal["synthetic", "mevis"]
    root: Path | None = None


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-4
    milestones: tuple[int, ...] = (3, 5)
    schedule: Literal["multistep", "cosine", "off"] = "multistep"


@dataclass(frozen=True)
class Config:
    optim: Optim = Optim(lr=3e-4)
    sources: tuple[Source, ...] = ()
    size: tuple[int, int] = (96, 160)
    arch: dict | None = None
    drop: float | None = None
    protocol: Protocol = CORRECTED
    amp: bool = False
    names: dict[str, int] = field(default_factory=dict)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_a_file_overrides_only_what_it_names(tmp_path: Path) -> None:
    config = load_config(Config, write(tmp_path, "optim: {milestones: [7]}\nsources: [{kind: mevis, root: data}]\n"))
    assert config.optim == Optim(lr=3e-4, milestones=(7,))
    assert config.sources == (Source("mevis", Path("data")),)
    assert config.size == (96, 160)


def test_overrides_win_and_may_index_a_list(tmp_path: Path) -> None:
    path = write(tmp_path, "optim: {lr: 1.0}\nsources: [{kind: mevis}, {kind: synthetic}]\n")
    config = load_config(Config, path, ["optim.lr=2e-5", "sources.1.root=here", "size=[8, 9]", "amp=true"])
    assert (config.optim.lr, config.sources[1].root, config.size, config.amp) == (2e-5, Path("here"), (8, 9), True)


def test_scalars_are_read_as_yaml_1_2(tmp_path: Path) -> None:
    config = load_config(Config, write(tmp_path, "optim: {lr: 1e-3, schedule: off}\ndrop: 1\n"))
    assert config.optim.lr == 1e-3 and config.optim.schedule == "off"
    assert config.drop == 1.0 and isinstance(config.drop, float)


def test_protocol_is_a_preset_name_or_a_preset_with_changes() -> None:
    assert from_dict(Config, {"protocol": "published"}).protocol == PUBLISHED
    mixed = from_dict(Config, {"protocol": {"name": "published", "mask_norm": "clips"}}).protocol
    assert mixed.mask_norm == "clips" and mixed.frozen_text_dropout == "on"
    with pytest.raises(InputError, match="protocol"):
        from_dict(Config, {"protocol": "publishd"})


def test_round_trip_through_json() -> None:
    config = Config(
        Optim(2.0, (), "cosine"), (Source("mevis", Path("a/b")),), (1, 2), {"model_type": "roberta"}, 0.5, PUBLISHED
    )
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def test_changed_keys_are_named() -> None:
    old, new = to_dict(Config()), to_dict(Config(optim=Optim(lr=1.0), size=(1, 2), arch={"a": 1}))
    assert changed_keys(old, new) == ["arch", "optim.lr", "size"]
    assert changed_keys(old, old) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"optim": {"lrr": 1}}, r"optim\.lrr.*did you mean 'lr'"),
        ({"optim": {"schedule": "cosin"}}, "schedule.*'cosine'"),
        ({"optim": {"lr": "fast"}}, r"optim\.lr.*float"),
        ({"optim": 3}, "optim.*mapping"),
        ({"size": [1]}, "size.*2 values"),
        ({"size": 4}, "size.*list"),
        ({"amp": 1}, "amp.*bool"),
        ({"sources": [{"root": "x"}]}, r"sources\.0\.kind"),
        ({"names": {"a": "b"}}, r"names\.a.*int"),
    ],
)
def test_what_is_wrong_is_named(data: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(Config, data)


@pytest.mark.parametrize("override", ["optim.lr", "=3", "optim.lr.x=1", "sources.4.root=x", "sources.a.root=x"])
def test_malformed_overrides_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(InputError):
        load_config(Config, write(tmp_path, "optim: {lr: 1.0}\nsources: [{kind: mevis}]\n"), [override])


def test_missing_and_malformed_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_config(Config, tmp_path / "none.yaml")
    with pytest.raises(InputError, match="valid YAML"):
        load_config(Config, write(tmp_path, "a: [1"))
    with pytest.raises(InputError, match="mapping"):
        load_config(Config, write(tmp_path, "- 1\n"))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    """YAML would take the last one in silence, at any depth."""
    for text in ("drop: 1\ndrop: 2\n", "optim: {lr: 1e-3, lr: 1e-4}\n"):
        with pytest.raises(InputError, match="stands twice"):
            load_config(Config, write(tmp_path, text))
