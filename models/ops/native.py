"""The native backend of deformable attention: C++ on the CPU, CUDA on a GPU, built on first use (models/ops/build.py).

A library that cannot be built or loaded makes the backend decline with the reason; nothing is built at import.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.ops import build
from util.errors import InputError

name = "native"
ISAS = ("base", "avx2", "avx512")  # their numbers are those of binding.cpp
ISA_VARIABLE = "REFERTRACK_OPS_ISA"


@dataclass(frozen=True)
class Library:
    """A loaded library: its file, its operators, its CUDA architectures or the newest ISA that this CPU runs."""

    path: Path
    ops: Any
    archs: tuple[str, ...]
    newest_isa: int


_lock = threading.Lock()
_found: dict[tuple[build.Kind, tuple[str, ...]], Library | str] = {}  # a str is why there is none
_loaded: dict[str, Any] = {}  # namespaces; one may not be loaded twice, from whichever file


def unavailable(device: torch.device, value_dtype: torch.dtype) -> str | None:
    """None when the kernels can run, else why not in one line; the compiler's output follows where there is some.

    Builds and loads the library where that was not done before.
    """
    if device.type not in ("cpu", "cuda"):
        return f"no kernel for {device.type} devices"
    found = _library(device)
    return found if isinstance(found, str) else None


def describe(device: torch.device) -> str:
    """What runs on `device`: instruction set or architectures, and the library's file."""
    found = _library(device)
    if isinstance(found, str):
        return found.splitlines()[0]
    what = ISAS[_isa(found)] if device.type == "cpu" else f"compiled for {', '.join(found.archs)}"
    return f"C++, {what}, {found.path}" if device.type == "cpu" else f"CUDA, {what}, {found.path}"


def forward(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    """Returns [N,Q,H,D] in value's dtype; sums in float32, float64 for float64."""
    library = _loaded_library(value.device)
    value, loc, attn = value.contiguous(), loc.contiguous(), attn.to(loc.dtype).contiguous()
    if value.is_cuda:
        return library.ops.msda_forward(value, shapes, loc, attn)
    return library.ops.msda_forward(value, shapes, loc, attn, _isa(library))


def backward(
    grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, loc and attn, each of its own dtype; on CUDA deterministic where torch is told to be."""
    library = _loaded_library(value.device)
    tensors = [x.contiguous() for x in (grad_out, value, loc, attn.to(loc.dtype))]
    last = torch.are_deterministic_algorithms_enabled() if value.is_cuda else _isa(library)
    grads = library.ops.msda_backward(tensors[0], tensors[1], shapes, tensors[2], tensors[3], last)
    return grads[0], grads[1], grads[2].to(attn.dtype)


def _isa(library: Library) -> int:
    newest = library.newest_isa
    asked = os.environ.get(ISA_VARIABLE)
    if not asked:
        return newest
    if asked not in ISAS or ISAS.index(asked) > newest:
        able = ", ".join(ISAS[: newest + 1])
        raise InputError(f"{ISA_VARIABLE}={asked}, but this CPU can run {able}; set one of them or none")
    return ISAS.index(asked)


# ---- the library -----------------------------------------------------------------------------------------------------


def forget() -> None:
    """Look for libraries anew at the next call."""
    _found.clear()


def _loaded_library(device: torch.device) -> Library:
    found = _library(device)
    assert isinstance(found, Library)  # the dispatcher has asked `unavailable`
    return found


def _library(device: torch.device) -> Library | str:
    kind: build.Kind = "cuda" if device.type == "cuda" else "cpu"
    archs = (_arch(device),) if kind == "cuda" else ()
    found = _found.get((kind, archs))
    if found is not None:
        return found
    with _lock:
        found = _found.get((kind, archs))
        if found is None:
            found = _found[kind, archs] = _make(kind, archs)
    return found


def _arch(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}.{minor}"


def _make(kind: build.Kind, archs: tuple[str, ...]) -> Library | str:
    reason, made = "", None
    try:
        made = build.recipe(kind)
    except build.BuildError as error:
        reason = str(error)
    path = build.find(kind, archs, made)
    if path is not None:
        try:
            return _load(path)
        except OSError as error:
            reason = f"{path} does not load: {error}"
            if build.SHIPPED not in path.parents:
                path.unlink(missing_ok=True)  # built anew below
    if made is None:
        return reason
    if kind == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "the kernels of deformable attention are not built yet and a CUDA graph is being captured; make one call "
            "before the capture, or run `python -m models.ops build cuda`"
        )
    try:
        return _load(build.library(made))
    except (build.BuildError, OSError) as error:
        return str(error)


def _load(path: Path) -> Library:
    space = build.namespace(path.stem)
    if space not in _loaded:
        torch.ops.load_library(path)
        _loaded[space] = getattr(torch.ops, space)
    ops, archs = _loaded[space], build.archs_of(path)
    return Library(path, ops, archs, 0 if archs else ops.newest_isa())
