"""Typed configs: YAML and command-line overrides into nested frozen dataclasses, and back to plain dicts.

A YAML file is a partial override of the dataclass's defaults. Unknown keys, keys given twice, wrong types and values
outside a `Literal` are refused with an `InputError` that names the key, and the nearest known one of an unknown one.
Scalars follow YAML 1.2: only `true` and `false` are booleans (`on` and `off` are words), and `1e-4` is a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from util.errors import InputError
from util.protocol import Protocol, protocol

T = TypeVar("T")


def load_config(cls: type[T], path: str | Path | None, overrides: typing.Sequence[str] = ()) -> T:
    """`cls` from the YAML file at `path` (None = the defaults) and `overrides` of the form "optim.lr=1e-4".

    An override's value is YAML; a number in its key indexes a list that the file gives (`data.sources.0.root=...`).
    Raises InputError for a missing or malformed file, an unknown key or a value of the wrong type.
    """
    return from_dict(cls, read_config(path, overrides))


def read_config(path: str | Path | None, overrides: typing.Sequence[str] = ()) -> dict[str, Any]:
    """What the file and the overrides say, as `load_config` takes it, and nothing of what they leave at its default."""
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = _parse(Path(path).read_text(encoding="utf-8"), str(path)) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the config {path}: {error}; recipes are in configs/") from error
        if not isinstance(data, dict):
            raise InputError(f"the config {path} must be a mapping of keys to values; see configs/tiny.yaml")
    for override in overrides:
        _apply_override(data, override)
    return data


def from_dict(cls: type[T], data: dict[str, Any], *, base: T | None = None, where: str = "") -> T:
    """Dataclass `cls` from a plain dict; what the dict does not name keeps `base`'s value, or the default.

    Nested dataclasses are merged key by key, tuples replaced whole. `util.protocol.Protocol` also takes a preset's
    name, and a dict of it starts from the preset its `name` gives. Raises InputError (`where` prefixes the keys).
    """
    if cls is Protocol and base is None:
        base = typing.cast(T, _preset(data.get("name", "corrected"), where))
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls)) if field.init}
    values: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{where}{key}"
        if key not in fields:
            raise InputError(f"unknown config key '{name}'{_nearest(key, fields)}; known: {', '.join(fields)}")
        current = getattr(base, key) if base is not None else _default(fields[key])
        values[key] = _convert(hints[key], value, name, current)
    if base is not None:
        return dataclasses.replace(typing.cast(Any, base), **values)
    missing = [name for name, field in fields.items() if name not in values and not _has_default(field)]
    if missing:
        raise InputError(f"the config must give {', '.join(where + name for name in missing)}")
    return cls(**values)


def to_dict(config: Any) -> Any:
    """A dataclass as JSON-ready dicts, lists and scalars; `from_dict(type(config), ...)` gives it back equal."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_dict(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def changed_keys(old: Any, new: Any, where: str = "") -> list[str]:
    """Dotted keys under which two `to_dict` results differ, missing ones included."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [where]
    keys = sorted(old.keys() | new.keys())
    prefix = f"{where}." if where else ""
    return [key for name in keys for key in changed_keys(old.get(name), new.get(name), f"{prefix}{name}")]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's booleans and floats, which refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf|\.nan)$"),
    list("-+.0123456789"),
)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"an override must look like optim.lr=1e-4, not {override!r}")
    *parents, last = key.split(".")
    node: Any = data
    for parent in parents:
        if isinstance(node, dict) and node.get(parent) is None:
            node[parent] = {}
        node = node[_index(node, parent, key)]
        if not isinstance(node, dict | list):
            raise InputError(f"override {override!r}: '{parent}' is a single value and has no keys of its own")
    node[_index(node, last, key)] = _parse(text, f"the value of {key}")


def _index(node: dict | list, part: str, key: str) -> Any:
    if isinstance(node, dict):
        return part
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(f"override '{key}': '{part}' must be an index below {len(node)}")
    return int(part)


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _has_default(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _nearest(word: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _preset(name: Any, where: str) -> Protocol:
    try:
        return protocol(name)
    except ValueError as error:
        raise InputError(f"'{where.rstrip('.')}': {error}") from error


def _convert(hint: Any, value: Any, name: str, current: Any) -> Any:
    """`value` as the annotation `hint` wants it; `current` is what a nested dataclass is merged into."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, name, current)
    if origin is typing.Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise InputError(f"'{name}' must be one of {', '.join(map(repr, arguments))}, not {value!r}")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if hint is Protocol and isinstance(value, str):
            return _preset(value, name)
        if not isinstance(value, dict):
            raise InputError(f"'{name}' must be a mapping with keys of {hint.__name__}, not {value!r}")
        keep = current if isinstance(current, hint) and not (hint is Protocol and "name" in value) else None
        return from_dict(hint, value, base=keep, where=f"{name}.")
    if origin is tuple or origin is list:
        return _convert_sequence(origin, arguments, value, name)
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise InputError(f"'{name}' must be a mapping, not {value!r}")
        inner = arguments[1] if arguments else Any
        return {key: _convert(inner, item, f"{name}.{key}", None) for key, item in value.items()}
    return _convert_scalar(hint, value, name)


def _convert_union(arguments: tuple, value: Any, name: str, current: Any) -> Any:
    if value is None and types.NoneType in arguments:
        return None
    refusals = []
    for option in (option for option in arguments if option is not types.NoneType):
        try:
            return _convert(option, value, name, current)
        except InputError as error:
            refusals.append(error)
    raise refusals[0]


def _convert_sequence(origin: Any, arguments: tuple, value: Any, name: str) -> Any:
    if not isinstance(value, list | tuple):
        raise InputError(f"'{name}' must be a list, not {value!r}")
    if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        hints = [arguments[0]] * len(value)
    else:
        hints = list(arguments)
    if len(hints) != len(value):
        raise InputError(f"'{name}' must be a list of {len(hints)} values, not {len(value)}")
    return origin(
        _convert(hint, item, f"{name}.{i}", None) for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _convert_scalar(hint: Any, value: Any, name: str) -> Any:
    if hint is Any:
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, bool, str) and type(value) is hint:
        return value
    raise InputError(f"'{name}' must be {getattr(hint, '__name__', hint)}, not {value!r}")
