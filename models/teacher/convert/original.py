"""Original checkpoints: read without running anything in them, compared key for key, written as a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from models.fitting import Fit, fit
from models.released import read_torch_file
from util.errors import InputError


def read_original(path: str | Path) -> dict[str, Tensor]:
    """The weights under "model" of a .pt or .pth file. Raises InputError for anything else, and for code in it."""
    content = read_torch_file(Path(path))
    model = content.get("model", content)
    if not isinstance(model, Mapping) or not all(isinstance(value, Tensor) for value in model.values()):
        raise InputError(f"{path} has no weights under 'model'; is it an original checkpoint?")
    return {name: value.float() if value.is_floating_point() else value for name, value in model.items()}


def require_fit(network: Callable[[], nn.Module], weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise InputError, which lists every fault, unless the weights are exactly those of the network."""
    with torch.device("meta"):
        built = network()
    ours = built.state_dict()
    result = fit(ours, weights)
    if result != Fit((), (), (), (), ()):
        problems = "\n  ".join(result.problems())
        raise InputError(f"{path} was not converted; it does not fit {type(built).__name__}:\n  {problems}")


def write_folder(
    out: str | Path,
    saved: Sequence[Any],
    weights: Mapping[str, Tensor] | None,
    *,
    source: str | Path,
    licence: str,
    model: str,
) -> None:
    """Write config.json, model.safetensors, README.md (the licence) and conversion.json, all or nothing.

    `saved` have a `save_pretrained`: the config, or the model itself where its names in files are not those of its
    modules (`weights` is then None), and a processor where there is one. Raises InputError when there is something
    already, or the disk is full.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; name a new folder")
    part = out.with_name(out.name + ".part")
    with Path(source).open("rb") as file:
        facts = {"converted_from": Path(source).name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for thing in saved:
            thing.save_pretrained(part)
        if weights is not None:
            named = {name: value.contiguous() for name, value in weights.items()}
            save_file(named, part / "model.safetensors", {"format": "pt"})
        (part / "README.md").write_text(f"---\nlicense: {licence}\n---\n{model}\n", encoding="utf-8")
        (part / "conversion.json").write_text(json.dumps({"model": model, **facts}, indent=1) + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()
        part.replace(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise InputError(f"cannot write {out}: {error}; free space or choose another folder") from error
