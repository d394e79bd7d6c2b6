"""Addresses of functions and collections in the public API."""

from __future__ import annotations

from lowcode_faas_core.client.connection import segment

__all__ = ["collection_path", "function_path"]


def collection_path(path: str, *rest: str) -> str:
    """Return the address of a collection, or of what it has; ``""`` is the root."""
    return "/".join(("/collections", *map(segment, path.split("/") if path else ()), *rest))


def function_path(path: str, name: str = "", *rest: str) -> str:
    """Return the address of a function of a collection, or of all of them."""
    above = "".join(f"/{segment(part)}" for part in path.split("/") if part)
    start = f"/collections{above}/functions" if above else "/functions"
    return "/".join((start, *(segment(part) for part in (name, *rest) if part)))
