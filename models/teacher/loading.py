"""Foundation models from a hub id or a local folder: strictly, with where they come from and under which licence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from models.teacher.interfaces import ModelInfo
from util.errors import InputError
from util.hub import local_folder

ADVICE = "pass a folder that holds the model, or a hub id while online (HF_ENDPOINT names a mirror)"
UNKNOWN = "unknown"

# Of the weights, by hub id up to its first difference; every other model says it in the head of its README.md
_LICENCES = {
    "IDEA-Research/grounding-dino-": "apache-2.0",
    "openmmlab-community/mm_grounding_dino_": "apache-2.0",
    "google/owlv2-": "apache-2.0",
    "florence-community/Florence-2-": "mit",
    "facebook/sam2": "apache-2.0",
    "facebook/sam3": "SAM License",
    "google/siglip2-": "apache-2.0",
}
_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "README.md", "*.safetensors")
_WEIGHTS = "*.safetensors"
_SHOWN = 5  # keys named in an error


class Loaded(NamedTuple):
    """A model in evaluation mode, the folder it came from, and what is known of it."""

    model: Any
    folder: Path
    info: ModelInfo


def model_folder(source: str | Path) -> Path:
    """Where `source` (a folder, or a hub id that is fetched once) lies; its weights must be safetensors.

    Raises InputError where there is none, or only files that would have to be unpickled.
    """
    source = str(source)
    if Path(source).suffix in (".pth", ".pt"):
        raise InputError(
            f"{source} is an original checkpoint; `python main.py teach convert {source} FOLDER` turns it into a "
            "folder that every command takes"
        )
    folder = local_folder(source, _FILES, what="model", advice=ADVICE)
    if not any(folder.glob(_WEIGHTS)):
        raise InputError(f"{folder} holds no *.safetensors; {ADVICE}")
    return folder


def load_pretrained(
    source: str | Path,
    factory: Any,
    *,
    backend: str,
    device: str | torch.device = "cpu",
    expected: Sequence[str] = (),
    **options: Any,
) -> Loaded:
    """`factory.from_pretrained` in float32, with every key accounted for, on `device`, in evaluation mode.

    `expected` are regular expressions of keys that may be missing or left over; `options` go to `from_pretrained`.
    Raises InputError that lists the keys which are missing, unexpected or of another shape: transformers would only
    warn and start the missing ones at random.
    """
    folder = model_folder(source)
    try:
        with _quiet():
            model, report = factory.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are listed below with the rest
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder} holds no model for {backend}: {reason}; {ADVICE}") from error
    problems = _problems(report, expected)
    if problems:
        raise InputError(f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}. Is it another model?")
    return Loaded(model.to(device).eval(), folder, describe(source, folder, backend))


def load_processor(folder: Path, factory: Any, **options: Any) -> Any:
    """`factory.from_pretrained`: what prepares images and text for the model in `folder`.

    Raises InputError where the folder lacks its files (weights alone were copied).
    """
    try:
        with _quiet():
            return factory.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder} lacks a processor's files (tokenizer.json, preprocessor_config.json): {reason}; copy the "
            "model's whole folder"
        ) from error


def describe(source: str | Path, folder: Path, backend: str) -> ModelInfo:
    """What is written into data sets about the model in `folder`, that was asked for as `source`.

    The revision is the hub's commit, or for a folder of one's own `sha256:` and the hash of its weights.
    """
    commit = re.fullmatch(r"[0-9a-f]{40}", folder.name)
    revision = commit[0] if commit and folder.parent.name == "snapshots" else weights_hash(folder.glob(_WEIGHTS))
    return ModelInfo(backend, str(source), revision, licence(str(source), folder))


def weights_hash(paths: Iterable[Path]) -> str:
    """`sha256:` and the hash of these files' names and contents, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"


def licence(source: str, folder: Path | None = None) -> str:
    """Licence of the weights: by hub id, else the `license:` of the folder's README.md, else "unknown"."""
    for begin, name in _LICENCES.items():
        if source.startswith(begin):
            return name
    card = folder / "README.md" if folder else None
    if card is not None and card.is_file():
        head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        found = re.search(r"^license:\s*(\S+)", head[1], re.MULTILINE) if head else None
        if found:
            return found[1].strip("'\"")
    return UNKNOWN


def _problems(report: dict[str, Any], expected: Sequence[str]) -> list[str]:
    found = []
    for what, keys in (
        ("missing", report["missing_keys"]),
        ("unexpected", report["unexpected_keys"]),
        ("of another shape", [key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]]),
    ):
        left = sorted(key for key in keys if not any(re.search(pattern, key) for pattern in expected))
        if left:
            more = ", ..." if len(left) > _SHOWN else ""
            found.append(f"{len(left)} {what}: {', '.join(left[:_SHOWN])}{more}")
    return found + [str(message) for message in report["error_msgs"]]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and its own report of the keys, which `_problems` replaces."""
    from transformers import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
