"""Fills a frozen dataclass of settings from a YAML file and `key=value` words; an unknown key is refused."""

import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError

Settings = TypeVar("Settings")


def load_settings(defaults: Settings, path: Path | None = None, words: Iterable[str] = ()) -> Settings:
    """The defaults, changed by a YAML file of key: value lines, then by `key=value` words, the last word winning.

    Raises ConfigError on an unknown key, naming the nearest known one, and on a value of the wrong type.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values |= _read_yaml(path)
    values |= read_pairs(words, "--set")
    return change_settings(defaults, values)


def read_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """The `key=value` words of an option as a dictionary. Raises ConfigError on a word of another shape.

    >>> read_pairs(["year=2023", "team = sales"], "--tag")
    {'year': '2023', 'team': 'sales'}
    """
    values: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = (part.strip() for part in pair.partition("="))
        if not sign or not key or not value:
            raise ConfigError(f"{option} {pair}: write key=value, as in {option} year=2023")
        values[key] = value
    return values


def change_settings(defaults: Settings, values: Mapping[str, Any]) -> Settings:
    """A copy of the defaults with these values; texts are turned into the type of their field.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Knobs:
    ...     batch: int = 8
    >>> change_settings(Knobs(), {"batch": "32"})
    Knobs(batch=32)
    """
    return replace(defaults, **_read_fields(type(defaults), values))  # type: ignore[type-var]


def _read_fields(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by field, each of its type."""
    kinds = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    changes = {}
    for key, value in values.items():
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"there is no setting {key!r}: {hint}")
        changes[key] = _convert(key, value, kinds[key])
    return changes


def _convert(key: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        return _convert_list(key, value, typing.get_args(kind)[0])
    if typing.get_origin(kind) is dict:
        value = _parse(key, value) if isinstance(value, str) and value.startswith("{") else value
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise ConfigError(f"{key}={value!r} is not names, each with a value")
        part = typing.get_args(kind)[1]
        return {name: _convert(f"{key}.{name}", held, part) for name, held in value.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        first = fields(kind)[0].name  # a bare text stands for the first field, as a path for a source
        found = _read_fields(kind, value if isinstance(value, dict) else {first: value})
        if first not in found:
            raise ConfigError(f"{key}: {first} is missing")
        return kind(**found)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None or value == "null":
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind is not bool and (isinstance(value, str) or (kind is float and type(value) is int)):
        with suppress(TypeError, ValueError):
            return kind(value)
    raise ConfigError(f"{key}={value!r} is not of the type {getattr(kind, '__name__', kind)}")


def _convert_list(key: str, value: Any, kind: Any) -> tuple[Any, ...]:
    """A list of YAML, as such or as a text in brackets, or words with commas between them, each of one kind."""
    items = value
    if isinstance(value, str):
        items = _parse(key, value) if value.startswith("[") else value.split(",")
    if not isinstance(items, list | tuple):
        raise ConfigError(f"{key}={value!r} is no list")
    return tuple(_convert(key, item, kind) for item in items)


def _parse(key: str, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}={text} is not YAML: {str(error).splitlines()[0]}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold `key: value` lines")
    return values
