"""The options of `sidecore boot`, made from the table of specs in `vmm/session/spec.py`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from vmm.session.parameters import Row, Spec
from vmm.session.spec import GuestSpec, HostSpec, all_rows

C = TypeVar("C", bound=Callable[..., None])


def spec_options(*specs: type[Spec]) -> Callable[[C], C]:
    """Give a command an option for each field of these specs that has one; of all, when none is named."""

    def decorate(command: C) -> C:
        for cls, row in reversed(list(all_rows())):
            if row.parameter.option and (not specs or cls in specs):
                command = _option(row)(command)
        return command

    return decorate


def read_specs(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of specs that were given, from the parameters of the command. Raises ConfigError."""
    given = {}
    for _, row in all_rows():
        value = values.get(row.name)
        if value is None or value == () or value is False:
            continue
        given[row.name] = _read(row, value)
    return given


def options_of(*specs: type[Spec]) -> dict[str, str]:
    """What the fields of specs are called on the command line, by their names."""
    return {row.name: row.parameter.option or "the guest's name" for cls, row in all_rows() if cls in specs}


MADE_BY_SNAPSHOT = options_of(GuestSpec, HostSpec)  # they say what the guest is


def _option(row: Row) -> Callable[[C], C]:
    parameter = row.parameter
    if parameter.is_flag:
        return click.option(parameter.option, row.name, is_flag=True, help=parameter.meaning)
    is_shown = bool(parameter.shown_default or (row.default and (row.choices or type(row.default) is int)))
    return click.option(
        parameter.option,
        row.name,
        type=_type(row),
        metavar=parameter.values or "|".join(row.choices) or None,
        multiple=row.is_repeatable,
        help=parameter.meaning + (" Repeatable." if row.is_repeatable else ""),
        default=(parameter.shown_default or row.default) if is_shown else None,
        show_default=is_shown,
    )


def _type(row: Row) -> Any:
    kinds = get_args(row.kind) or (row.kind,)
    if row.parameter.read is not None:
        return str
    if Path in kinds:
        return click.Path(path_type=Path)
    return next((kind for kind in (int, float) if kind in kinds), str)


def _read(row: Row, value: Any) -> Any:
    """A value of the command as one of the field."""
    parameter = row.parameter
    if parameter.is_flag:
        return type(row.default)(not row.default)
    if parameter.read is None:
        return value
    return tuple(map(parameter.read, value)) if row.is_repeatable else parameter.read(value)
