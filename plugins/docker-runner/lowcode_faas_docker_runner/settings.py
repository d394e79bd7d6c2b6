"""The variables of the Docker runner."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from lowcode_faas_core.settings import boolean, integer, setting

__all__ = ["OWN_NETWORK", "DockerSettings", "Exchange"]

#: What ``DOCKER_NETWORK`` is when it is not set: a bridge network of the service's own.
OWN_NETWORK = ""


class Exchange(enum.StrEnum):
    """How host and user code exchange input and output."""

    STREAM = "stream"
    FILES = "files"


def _exchange(value: str) -> Exchange:
    try:
        return Exchange(value.strip().lower())
    except ValueError:
        raise ValueError("must be stream or files") from None


def _image(value: str) -> str:
    name = value.strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", name):
        raise ValueError("must be the name of an image, like node:22-alpine")
    return name


def _name(value: str) -> str:
    name = value.strip()
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ValueError("must be a name of letters, digits, '_', '.' and '-'")
    if name in ("host", "bridge", "default"):
        raise ValueError("must be none or a network made for user code; this one reaches the host")
    return name


@dataclass(frozen=True)
class DockerSettings:
    """Which image runs user code, and how far from everything else."""

    exchange: Exchange = setting(
        "DOCKER_EXCHANGE",
        _exchange,
        "stream",
        "How code, input and output travel: stream (frames over attach) or files (one container "
        "an invocation, for engines behind a proxy that forbids attach).",
    )
    direct: bool = setting(
        "DOCKER_DIRECT",
        boolean,
        "true",
        "Speak to containers over a Unix socket where the engine is on this machine and mounts "
        "folders of this service: a warm call costs the engine nothing then. false: mount nothing, "
        "and speak by the engine's attach alone.",
    )
    image: str = setting(
        "NODE_DOCKER_IMAGE",
        _image,
        "node:22-alpine",
        "Image for user code, with Node of at least 22.18 on its PATH; any registry's full name "
        "works, a digest (name@sha256:...) pins it.",
    )
    prewarm_image: bool = setting(
        "PREWARM_NODE_IMAGE",
        boolean,
        "true",
        "Pull the image in the background at start when the engine does not have it; otherwise "
        "the first invocation does.",
    )
    network: str = setting(
        "DOCKER_NETWORK",
        _name,
        OWN_NETWORK,
        "Network of user code: none, or the name of one that exists; empty: a bridge network of "
        "the service's own, in which containers do not reach each other.",
    )
    runtime: str = setting(
        "DOCKER_RUNTIME", _name, "", "Runtime of the containers, like runsc; empty: the engine's."
    )
    uid: int = setting(
        "DOCKER_UID", integer(1, (1 << 32) - 2), "65534", "User and group id of user code."
    )
    instance: str = setting(
        "DOCKER_INSTANCE",
        _name,
        "",
        "Name of this service among those that share an engine: it removes what carries its name "
        "and has no owner left. Empty: made from the machine and the data folder.",
    )
