"""Files and folders that are on the disk whole, or not there: what a killed process leaves behind is never read.

The unfinished name is always the same for the same target, so that the next attempt overwrites what a killed one left.
Two processes must therefore not write one target at a time; `locked` keeps them apart.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
FULL = (errno.ENOSPC, errno.EDQUOT)  # error numbers of a full disk


def canonical(content: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal content has equal bytes. Raises ValueError for NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(content: bytes | str) -> str:
    """Hexadecimal digest; of text, of its UTF-8 bytes."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def write_bytes(path: Path, content: bytes) -> Path:
    """`content` at `path`, which is returned, flushed to the disk, in one step; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + PARTIAL)
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    flush(path.parent)
    return path


def swap_folder(unfinished: Path, final: Path) -> None:
    """Rename a whole folder to its final name; one that is there makes room and is deleted."""
    stale = final.with_name(f".{final.name}.stale")
    shutil.rmtree(stale, ignore_errors=True)
    flush(unfinished)
    if final.exists():
        final.rename(stale)
    unfinished.rename(final)
    flush(final.parent)
    shutil.rmtree(stale, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` while inside; gives False, without waiting, where another process holds it.

    The kernel releases it when the process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
