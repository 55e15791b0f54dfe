"""Typed settings from plain configuration values, with errors that name the field."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict, config_dict

from dass_jax.errors import UserError

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], path: str = "config") -> T:
    """Makes a frozen dataclass, and those nested in it, from plain values.

    Args:
      cls: The dataclass.
      values: One entry per field; missing ones take the field's default.
      path: Where the values come from, for messages.

    Returns:
      The checked settings.

    Raises:
      UserError: If a field is unknown, missing or of the wrong type, or refused by the class.
    """
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - fields.keys()):
        raise UserError(f"{path} has no field {unknown[0]!r}: choose from {', '.join(fields)}")
    arguments = {
        name: _convert(hints[name], value, f"{path}.{name}") for name, value in values.items()
    }
    missing = [
        name
        for name, field in fields.items()
        if name not in arguments
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{path}.{missing[0]} must be given")
    try:
        return cls(**arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Checks one value against its annotation; int is accepted for float, list for tuple."""
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, path)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(_not_none(hint), value, path)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(get_args(hint)[0], item, path) for item in value)
    if origin is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise UserError(f"{path} is {value!r}: choose one of {choices}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = isinstance(hint, type) and isinstance(value, hint)
    if not fits or (hint is int and isinstance(value, bool)):
        raise UserError(f"{path} is {value!r}: give a {getattr(hint, '__name__', hint)}")
    return value


def _not_none(hint: Any) -> Any:
    return next(option for option in get_args(hint) if option is not type(None))


def to_config(settings: Any) -> ConfigDict:
    """The editable counterpart of a settings dataclass, with every field present.

    An optional field that is unset becomes a placeholder of its type, so that a command line can
    set it.
    """
    hints = get_type_hints(type(settings))
    config = ConfigDict()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = to_config(value)
        elif value is None:
            hint = _not_none(hints[field.name])
            choices = get_args(hint) if get_origin(hint) is Literal else ()
            value = config_dict.placeholder(type(choices[0]) if choices else hint)
        config[field.name] = value
    return config
