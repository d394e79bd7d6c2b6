"""What a caller is told about JSON that was decoded, but has not the shape that is expected."""

from __future__ import annotations

import enum
import re
from typing import Any, get_args, get_type_hints

import msgspec

from lowcode_faas_core.errors import InvalidValue, MalformedRequest

__all__ = ["escape", "refusal"]

_at = re.compile(r" - at `\$([^`]*)`\Z").search
_missing = re.compile(r"Object missing required field `(\w+)`").match
_expected = re.compile(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`\Z").match
#: How msgspec names the place of a value in a mapping; of ours only env is one.
_SOME_KEY = "[...]"
_tokens = re.compile(r"\w+|\[\.\.\.\]").findall
#: Types as callers know them.
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}


def escape(key: str) -> str:
    """Return ``key`` as one token of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def refusal(shape: type[msgspec.Struct], document: Any, error: Exception) -> Exception:
    """Return the 422 for ``document``, which msgspec refused to make a ``shape`` of."""
    if isinstance(error, RecursionError):
        return MalformedRequest("the JSON is nested too deeply")
    if not isinstance(document, dict):
        return InvalidValue("the body must be an object", "")
    for field in document:
        if field not in shape.__struct_fields__:
            return InvalidValue(_unknown(shape), f"/{escape(field)}")
    message = str(error)
    found = _at(message)
    tokens = _tokens(found[1]) if found else []
    text = message[: found.start()] if found else message
    missing = _missing(text)
    wrong_type = _expected(text)
    if missing:
        tokens.append(missing[1])
        text = "this field is required"
    elif text.startswith("Object contains unknown field `"):
        # Taken from the front: the name is the caller's and may hold anything.
        name = text.removeprefix("Object contains unknown field `").removesuffix("`")
        text = _unknown(_type_at(shape, tokens))
        tokens.append(escape(name))
    elif wrong_type or text.startswith("Invalid enum value"):
        text = _illegal(_type_at(shape, tokens), wrong_type)
    return InvalidValue(text.replace("`", ""), _pointer(tokens, document))


def _unknown(shape: Any) -> str:
    fields: tuple[str, ...] = getattr(shape, "__struct_fields__", ())
    hint = "; what the function is to be given goes inside input" if "input" in fields else ""
    return f"this field is not known here; known are {', '.join(fields)}{hint}"


def _illegal(wanted: Any, wrong_type: re.Match[str] | None) -> str:
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return f"must be {' or '.join(str(member.value) for member in wanted)}"
    if wrong_type is None:
        return "is no legal value"
    expected, got = wrong_type.groups()
    if {expected, got} == {"int", "float"}:
        return "must be a whole number"
    given = "a number" if got in ("int", "float") else "a boolean" if got == "bool" else ""
    given = given or _WORDS.get(got, got)
    return f"must be {_WORDS.get(expected, expected)}, not {given}"


def _type_at(shape: Any, tokens: list[str]) -> Any:
    """Return the declared type of the field that ``tokens`` lead to, ``None`` taken off."""
    for token in tokens:
        if not hasattr(shape, "__struct_fields__"):
            return None
        declared = get_type_hints(shape).get(token)
        others = [one for one in get_args(declared) if one is not type(None)]
        is_optional = len(others) == 1 and len(get_args(declared)) == 2
        shape = others[0] if is_optional else declared
    return shape


def _pointer(tokens: list[str], document: dict[str, Any]) -> str:
    """Return the pointer; msgspec does not say at which key of a mapping it stopped."""
    pointer = ""
    for token in tokens:
        if token == _SOME_KEY:
            values: dict[str, Any] = document[tokens[0]]
            token = next((escape(k) for k, v in values.items() if not isinstance(v, str)), "")
        pointer += f"/{token}"
    return pointer
