"""Where a folder or a Hugging Face hub id lies on this machine; offline, the hub's cache answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from util.errors import InputError

_FILES = (".pth", ".pt", ".bin", ".safetensors", ".json")  # a missing file, not a repository's name


def local_folder(source: str, patterns: Sequence[str], *, what: str, advice: str) -> Path:
    """`source` itself when it is a folder, else the hub repository of that id, downloaded once.

    Only files that match `patterns` are fetched; a repository may have none of them. Raises InputError, which names
    `what` was looked for and ends in `advice`, when there is neither.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    problem = f"no {what} at {source!r}: it is no folder here"
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or path.suffix in _FILES:
        raise InputError(f"{problem}; {advice}")

    # Imported here: it costs half a second, and most runs read a folder.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        # One request, no retries: offline this falls back to the cache at once.
        return Path(snapshot_download(source, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise InputError(
            f"{problem}, and the Hugging Face hub keeps it behind a licence; ask for access at "
            f"https://huggingface.co/{source}, then `hf auth login`; or {advice}"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(f"{problem}, and the Hugging Face hub has no such id; {advice}") from error
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{problem}, the Hugging Face hub cannot be reached and its cache lacks it; {advice}"
        ) from error
    except OSError as error:
        raise InputError(f"{problem}, and the Hugging Face hub failed ({error}); {advice}") from error
