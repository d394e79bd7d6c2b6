"""The places where a write can be cut short; a checker ends the process at each of them."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FAULT_POINTS", "Step", "no_step"]

#: Called with the name of each point a write passes; does nothing unless a checker injects one.
Step = Callable[[str], None]

_COMMIT = "locked history-open row-kept archive-staged archived".split()
_COMMIT_END = "history-synced meta-staged committed commit-synced".split()
_PUBLISH = "source-published published-synced marker-removed pruned".split()

#: Every point, in the order a write passes them.
FAULT_POINTS: tuple[str, ...] = tuple(
    f"{operation}.{point}"
    for operation, points in {
        "deploy": [
            *_COMMIT,
            "env-staged",
            "marked",
            "source-staged",
            *_COMMIT_END,
            "env-published",
            *_PUBLISH,
        ],
        "rollback": [*_COMMIT, "marked", "source-staged", *_COMMIT_END, *_PUBLISH],
        "adopt": [*_COMMIT, *_COMMIT_END, "pruned"],
        "recover": ["locked", "env-published", "source-read", *_PUBLISH[:3]],
        "function-env": ["locked", "staged", "renamed", "synced"],
        "collection-env": ["locked", "staged", "renamed", "synced"],
        "delete": [
            "locked",
            "legacy-env-removed",
            "shadowed-removed",
            "source-removed",
            "removal-synced",
            "env-removed",
            "history-removed",
            "meta-removed",
        ],
        "collection-create": ["locked", "staged", "renamed", "synced"],
        "collection-delete": ["locked", "checked", "renamed", "synced", "swept"],
    }.items()
    for point in points
)


def no_step(_point: str) -> None:
    """Pass a point without doing anything."""
