"""Data set trees to damage: a test works on its own copy, and changes a JSON file in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def copy(tree: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Have `change` alter the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
