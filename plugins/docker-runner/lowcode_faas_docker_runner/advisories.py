"""Known ways out of a container, by the versions of the engine's parts that have them.

As of 2026-11-26. Distributions bring fixes back without changing these versions, so that a match
is a reason to look at the distribution's own notes, not a proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ADVISORIES", "Advisory", "known", "numbers"]

Version = tuple[int, ...]


@dataclass(frozen=True)
class Advisory:
    """Holes that were closed together."""

    #: As the engine names its part.
    part: str
    identities: tuple[str, ...]
    #: From and below which versions; a fix may have come in several branches.
    affected: tuple[tuple[Version, Version], ...]
    #: Completes "…, by which".
    harm: str
    source: str
    #: Only copying into or out of a container opens it: the exchange ``files``.
    by_copying: bool = False


ADVISORIES: Final = (
    Advisory(
        "Engine",
        ("CVE-2026-41567", "CVE-2026-41568", "CVE-2026-42306"),
        (((), (29, 5, 1)),),
        "a container that is copied into runs programs, makes files or mounts volumes on the host",
        "Docker Engine 29.5.1 release notes, 2026-05-18; "
        "GHSA-x86f-5xw2-fm2r, GHSA-vp62-88p7-qqf5, GHSA-rg2x-37c3-w2rh",
        by_copying=True,
    ),
    Advisory(
        "Engine",
        ("CVE-2021-41089",),
        (((), (20, 10, 9)),),
        "copying into a container changes modes of files on the host",
        "GHSA-v994-f8vw-g7j4, 2021-10-04",
        by_copying=True,
    ),
    Advisory(
        "Engine",
        ("CVE-2019-14271",),
        (((19, 3, 0), (19, 3, 1)),),
        "a container that is copied from or into runs code as root on the host",
        "moby pull request 39612, 2019-07-26",
        by_copying=True,
    ),
    Advisory(
        "runc",
        ("CVE-2024-21626",),
        (((), (1, 1, 12)),),
        "an image gets at the host's files",
        "GHSA-xr7r-f8xq-vfvv, 2024-01-31",
    ),
    Advisory(
        "runc",
        ("CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"),
        (((), (1, 2, 8)), ((1, 3), (1, 3, 3))),
        "a container writes to the host's /proc",
        "runc 1.2.8 and 1.3.3 release notes, 2025-11-05",
    ),
)


def known(version: Mapping[str, Any], *, by_copying: bool) -> Iterator[tuple[str, Advisory]]:
    """Yield version and advisory for each part of an engine that has one; ``version`` is its own.

    ``by_copying`` tells whether those that need a copy are wanted, or the others.
    """
    parts = {str(part.get("Name")): part.get("Version") for part in version.get("Components") or ()}
    parts.setdefault("Engine", version.get("Version"))
    for advisory in ADVISORIES:
        said = str(parts.get(advisory.part) or "")
        has = numbers(said)
        if not has or advisory.by_copying != by_copying:
            continue
        if any(low <= has < fixed for low, fixed in advisory.affected):
            yield said, advisory


def numbers(version: str) -> Version:
    """Return the leading numbers of a version: ``1.1.5+ds1`` is ``(1, 1, 5)``."""
    found = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)
