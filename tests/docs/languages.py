"""Configuration in pages, parsed by what reads it."""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Callable

import yaml

__all__ = ["PARSERS"]


def _ini(text: str) -> object:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.read_string(text)
    return parser


def _variables(text: str) -> object:
    """Read an environment file: one NAME=value a line."""
    pairs = dict(
        line.split("=", 1) for line in text.splitlines() if line.strip() and line[0] != "#"
    )
    if not all(name.isidentifier() for name in pairs):
        raise ValueError("a name that is none")
    return pairs


def _document(text: str) -> object:
    found = yaml.safe_load(text)
    if not isinstance(found, dict | list):
        raise TypeError("a text, not a document")  # nearly everything is legal YAML
    return found


PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": _document,
    "ini": _ini,
    "properties": _variables,
}
