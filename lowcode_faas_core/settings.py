"""The environment, read once into frozen dataclasses; every problem is collected, then raised once.

A settings class is a frozen dataclass whose fields are made with :func:`setting`; the core's and
each plugin's are read the same way by :func:`read_settings`, and the documentation, ``lowcode-faas
config`` and the warnings about unknown names come from the same declarations.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from lowcode_faas_core.errors import ConfigurationError

__all__ = [
    "PREFIX",
    "Origin",
    "Parser",
    "SettingInfo",
    "boolean",
    "decimal",
    "effective",
    "infos",
    "integer",
    "is_settings_class",
    "name_list",
    "path",
    "read",
    "read_settings",
    "setting",
    "text",
    "unknown_names",
]

PREFIX = "LOWCODE_FAAS_"

S = TypeVar("S")
Parser = Callable[[str], Any]


@dataclass(frozen=True)
class SettingInfo:
    """One variable: its full name, how to parse it, its default as text, and what it means."""

    variable: str
    parse: Parser
    default: str
    doc: str
    secret: bool


@dataclass(frozen=True)
class Origin:
    """The effective text of one variable and where it came from (``default``, the name, a file)."""

    info: SettingInfo
    text: str
    origin: str


def setting(name: str, parse: Parser, default: str, doc: str, *, secret: bool = False) -> Any:
    """Declare a field read from ``LOWCODE_FAAS_<name>``; a secret also from ``…_FILE``.

    ``default`` is text and goes through ``parse`` like a given value. ``parse`` raises
    ``ValueError`` with a sentence that completes "<variable> …".
    """
    info = SettingInfo(PREFIX + name, parse, default, doc, secret)
    return dataclasses.field(default=cast(Any, parse(default)), metadata={"setting": info})


def infos(classes: Iterable[type[Any]]) -> list[SettingInfo]:
    """Return the variables of these settings classes, in order of declaration, each once."""
    found: dict[str, SettingInfo] = {}
    for cls in classes:
        for field in dataclasses.fields(cls):
            info: SettingInfo = field.metadata["setting"]
            found.setdefault(info.variable, info)
    return list(found.values())


def is_settings_class(cls: object) -> bool:
    """Tell whether ``cls`` is a dataclass all of whose fields were made with :func:`setting`."""
    return (
        isinstance(cls, type)
        and dataclasses.is_dataclass(cls)
        and all("setting" in field.metadata for field in dataclasses.fields(cls))
    )


def effective(environ: Mapping[str, str], info: SettingInfo) -> Origin:
    """Return one variable's text and origin; an empty value counts as not set.

    :raises ConfigurationError: when a secret is given twice or its file cannot be read.
    """
    value = environ.get(info.variable, "")
    file_variable = info.variable + "_FILE"
    file_name = environ.get(file_variable, "") if info.secret else ""
    if value and file_name:
        raise ConfigurationError([f"{info.variable} and {file_variable} are both set; keep one"])
    if file_name:
        try:
            content = Path(file_name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(
                [f"{file_variable} names {file_name}, which cannot be read: {reason}"]
            ) from error
        return Origin(info, content.rstrip("\r\n"), file_variable)
    if value:
        return Origin(info, value, info.variable)
    return Origin(info, info.default, "default")


def read_settings(environ: Mapping[str, str], *classes: type[Any]) -> list[Any]:
    """Return one instance of each class, or raise with every problem of all of them."""
    problems: list[str] = []
    instances: list[Any] = []
    for cls in classes:
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            info: SettingInfo = field.metadata["setting"]
            try:
                origin = effective(environ, info)
                values[field.name] = info.parse(origin.text)
            except ConfigurationError as error:
                problems.extend(error.problems)
            except ValueError as error:
                shown = "" if info.secret else f", not {origin.text!r}"
                problems.append(f"{origin.origin} {error}{shown}")
        if not problems:
            try:
                instances.append(cls(**values))
            except ConfigurationError as error:
                problems.extend(error.problems)
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    return instances


def read(environ: Mapping[str, str], cls: type[S]) -> S:
    """Return one instance of one settings class; see :func:`read_settings`."""
    return cast(S, read_settings(environ, cls)[0])


def unknown_names(
    environ: Mapping[str, str], known: Iterable[SettingInfo], *, nearly: bool = False
) -> list[str]:
    """Return a sentence, with the nearest match, for each name of ours nobody declared.

    With ``nearly`` only for those that are all but one of ``known``.
    """
    names = {info.variable for info in known}
    names |= {info.variable + "_FILE" for info in known if info.secret}
    sentences = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.95 if nearly else 0.6)
            if nearly and not near:
                continue
            hint = f"; did you mean {near[0]}?" if near else ""
            sentences.append(
                f"{name} is not a variable of this service or of a selected plugin{hint}"
            )
    return sentences


def text(value: str) -> str:
    """Parse any text."""
    return value


def path(value: str) -> Path:
    """Parse a path; ``~`` is expanded, relative ones are taken from the working directory."""
    if "\0" in value:
        raise ValueError("must be a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("must be a path; there is no such home folder") from None


def boolean(value: str) -> bool:
    """Parse ``true/false``, ``1/0``, ``yes/no``, ``on/off``."""
    folded = value.strip().lower()
    if folded in ("true", "1", "yes", "on"):
        return True
    if folded in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def integer(low: int, high: int | None = None) -> Parser:
    """Make a parser of whole numbers between ``low`` and ``high``, both included."""
    span = f"from {low} to {high}" if high is not None else f"of at least {low}"

    def parse(value: str) -> int:
        stripped = value.strip()
        if not (stripped.isascii() and stripped.removeprefix("-").isdigit() and len(stripped) < 20):
            raise ValueError(f"must be a whole number {span}")
        number = int(stripped)
        if number < low or (high is not None and number > high):
            raise ValueError(f"must be a whole number {span}")
        return number

    return parse


def decimal(low: float, high: float) -> Parser:
    """Make a parser of numbers between ``low`` and ``high``, both included."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return number

    return parse


def name_list(value: str) -> tuple[str, ...]:
    """Parse a comma list of names; ``none`` and nothing are the empty list."""
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    return () if [name.lower() for name in names] == ["none"] else names
