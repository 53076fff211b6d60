"""Finished runs as small JSON files, one for each row and seed: what is done, what is missing, what is out of date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from util.atomic import write_bytes

State = Literal["done", "missing", "out of date"]


@dataclass(frozen=True)
class Results:
    """The folder of finished runs."""

    folder: Path

    def path(self, name: str, seed: int) -> Path:
        return self.folder / f"{name}.seed{seed}.json"

    def state(self, name: str, seed: int, key: str) -> State:
        path = self.path(name, seed)
        if not path.is_file():
            return "missing"
        return "done" if json.loads(path.read_text(encoding="utf-8"))["key"] == key else "out of date"

    def write(self, name: str, seed: int, content: Mapping[str, Any]) -> Path:
        """A finished run, whole or not at all."""
        return _write(self.path(name, seed), content)

    def write_bounds(self, content: Mapping[str, Any]) -> Path:
        """What needs no network, of all splits."""
        return _write(self._bounds, content)

    def bounds_key(self) -> str | None:
        """Of which videos the bounds are; None where there are none."""
        return json.loads(self._bounds.read_text(encoding="utf-8"))["key"] if self._bounds.is_file() else None

    def bounds(self) -> dict[str, dict[str, float]]:
        """baseline -> split -> J&F of answers with true masks and no network; empty where they were not measured."""
        if not self._bounds.is_file():
            return {}
        found: dict[str, dict[str, float]] = json.loads(self._bounds.read_text(encoding="utf-8"))["J&F"]
        return found

    @property
    def movements(self) -> Results:
        """Learning curves of movements, in a folder of their own."""
        return Results(self.folder / "movements")

    def read_movements(self) -> dict[str, dict[str, Any]]:
        """Variant -> content, of the first seed that there is."""
        files = sorted(self.movements.folder.glob("*.seed*.json"))
        return {path.name.split(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in reversed(files)}

    @property
    def _bounds(self) -> Path:
        return self.folder / "bounds.json"

    def read(self) -> dict[str, dict[int, dict[str, Any]]]:
        """All that is there: row -> seed -> content."""
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for path in sorted(self.folder.glob("*.seed*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(content["row"], {})[content["training"]["seed"]] = content
        return found


def _write(path: Path, content: Mapping[str, Any]) -> Path:
    """JSON with each entry on a line of its own, and each split of a table of splits."""
    lines = [f"{json.dumps(name)}: {_entry(value)}" for name, value in content.items()]
    return write_bytes(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _entry(value: Any) -> str:
    if isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
        return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + "\n}"
    return json.dumps(value)
