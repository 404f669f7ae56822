"""Fields that say what they mean: a `Spec` is a frozen dataclass of them, checked value by value when it is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from emulator.errors import ConfigError, choices_text


@dataclass(frozen=True)
class Parameter:
    """One row of the table. `least` and `most` are inclusive; `above` is not."""

    meaning: str
    option: str = ""  # on the command line; "": it has none, or is the one argument
    values: str = ""  # what stands behind the option in its help
    noun: str = ""  # of a choice, in the line about a wrong one
    least: int | None = None
    most: int | None = None
    above: int | None = None
    read: Callable[[str], Any] | None = None  # from the text behind the option; raises ConfigError
    shown_default: str = ""
    is_flag: bool = False  # the option alone says it: not the default, or one
    is_in_memory: bool = False  # a snapshot has what came of it


class Row(NamedTuple):
    """A field with its parameter. `choices`: the only values, if there are few."""

    name: str
    kind: Any
    default: Any
    parameter: Parameter
    choices: tuple[str, ...]

    @property
    def is_repeatable(self) -> bool:
        """Whether it is a tuple of what its option says."""
        return get_origin(self.kind) is tuple


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A row of values that are checked one by one."""

    def __post_init__(self) -> None:
        for row in rows_of(type(self)):
            value = getattr(self, row.name)
            if value is not None:
                value = _of_kind(row, value)
                object.__setattr__(self, row.name, value)
                _check(row, value)

    @classmethod
    def take(cls, values: Mapping[str, Any]) -> Self:
        """A spec of these values; lists, as JSON has them, become tuples. Raises ConfigError, or TypeError."""
        return cls(**{name: _frozen(value) for name, value in values.items()})


def rows_of(cls: type) -> tuple[Row, ...]:
    """The table of a spec."""
    hints: Mapping[str, Any] = MappingProxyType(get_type_hints(cls, include_extras=True))
    rows = []
    for field in fields(cls):
        kind, parameter = get_args(hints[field.name])
        members = [kind, *get_args(kind)]  # of `Literal[...] | None`, too
        choices = next((get_args(member) for member in members if get_origin(member) is Literal), ())
        rows.append(Row(field.name, kind, field.default, parameter, choices))
    return tuple(rows)


def saved_values(spec: Spec) -> dict[str, Any]:
    """What a snapshot has to say of a spec, because memory does not."""
    return {row.name: getattr(spec, row.name) for row in rows_of(type(spec)) if not row.parameter.is_in_memory}


def _of_kind(row: Row, value: Any) -> Any:
    """The value with the type of its field; a text may name a file, a list be a tuple. Raises ConfigError."""
    members = [row.kind] if get_origin(row.kind) in (tuple, Literal) else get_args(row.kind) or [row.kind]
    kinds = {str if get_origin(member) is Literal else get_origin(member) or member for member in members}
    if isinstance(value, str) and Path in kinds:
        return Path(value)
    if isinstance(value, list) and tuple in kinds:
        return tuple(value)
    if not isinstance(value, tuple(kinds | ({int} if float in kinds else set()))):
        names = " or ".join(sorted(kind.__name__ for kind in kinds if kind is not type(None)))
        raise ConfigError(f"{row.parameter.option or row.name} {value!r} is not possible; give a value of type {names}")
    return value


def _check(row: Row, value: Any) -> None:
    """One value, in its range. Raises ConfigError."""
    parameter = row.parameter
    name = parameter.option or row.name
    if row.choices and value not in row.choices:
        raise ConfigError(f"no {parameter.noun} {value!r}; {choices_text(str(value), row.choices)}")
    if parameter.above is not None and not value > parameter.above:
        raise ConfigError(f"{name} {value:g} is not possible; give a number above {parameter.above}")
    least, most = parameter.least, parameter.most
    if least is not None and not least <= value <= (most or value):
        range_text = f"from {least} to {most}" if most else f"of {least} or more"
        raise ConfigError(f"{name} {value} is not possible; give a number {range_text}")


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
