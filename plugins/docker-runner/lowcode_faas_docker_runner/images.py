"""The image for user code: there, being pulled, or why not. Pulls are single-flight."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from docker.utils import parse_repository_tag

from lowcode_faas_core.errors import ImageUnavailable, RunnerUnavailable
from lowcode_faas_docker_runner.engine import Engine

__all__ = ["Images"]

_log = logging.getLogger(__name__)

#: Longest silence of a pull between two of its progress messages, in seconds.
PULL_SILENCE_S: Final = 120.0
#: So long a failed pull is not tried again, in seconds: registries count what they refuse.
RETRY_S: Final = 30.0


class _Pull:
    """One attempt, which many may wait for."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.over = threading.Event()
        self.failure: str | None = None
        self.ended = 0.0


class Images:
    """Used by many threads; a pull runs in a thread of its own and outlives who asked for it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._lock = threading.Lock()
        self._pull: _Pull | None = None
        self._digests: dict[str, str] = {}

    def prewarm(self) -> None:
        """Pull in the background when the engine does not have the image; returns at once."""
        threading.Thread(target=self._prewarm, name="docker-prewarm", daemon=True).start()

    def obtain(self, deadline_ns: int) -> None:
        """Return when the image has been pulled; called when the engine said it is absent.

        :raises ImageUnavailable: with the reason, and what to do.
        """
        pull = self._begin()
        if not pull.over.wait(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)):
            raise ImageUnavailable(self._in_progress(pull))
        if pull.failure is not None:
            raise ImageUnavailable(self._absent(pull.failure))

    def check(self) -> None:
        """Return when the engine has the image.

        :raises ImageUnavailable: with the reason, and what to do.
        """
        if self._engine.image(self._name) is not None:
            return
        pull = self._pull
        if pull is None:
            raise ImageUnavailable(self._absent("it is pulled when it is first needed"))
        if not pull.over.is_set():
            raise ImageUnavailable(self._in_progress(pull))
        raise ImageUnavailable(self._absent(pull.failure or "it was removed after the pull"))

    def digest(self, image_id: str) -> str:
        """Return ``name@sha256:…`` where a registry gave one, else the id itself."""
        known = self._digests.get(image_id)
        if known is None:
            try:
                found = (self._engine.image(image_id) or {}).get("RepoDigests") or []
            except RunnerUnavailable:
                return image_id
            repository, _ = parse_repository_tag(self._name)
            ours = [each for each in found if each.startswith(f"{repository}@")]
            known = self._digests[image_id] = (ours or found or [image_id])[0]
        return known

    def _prewarm(self) -> None:
        try:
            if self._engine.image(self._name) is None:
                self._begin()
        except RunnerUnavailable as error:
            _log.warning("the image %s is not prewarmed: %s", self._name, error.detail)

    def _begin(self) -> _Pull:
        with self._lock:
            pull = self._pull
            if pull is not None:
                recent = time.monotonic() - pull.ended < RETRY_S
                if not pull.over.is_set() or (pull.failure is not None and recent):
                    return pull
            pull = self._pull = _Pull()
        thread = threading.Thread(target=self._run, args=(pull,), name="docker-pull", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            pull.failure = "no thread can be had to pull the image"
            pull.ended = time.monotonic()
            pull.over.set()
        return pull

    def _run(self, pull: _Pull) -> None:
        _log.info("pulling the image %s", self._name)
        try:
            pull.failure = self._do_pull()
        except RunnerUnavailable as error:
            pull.failure = error.detail
        except Exception as error:
            _log.exception("pulling the image %s failed", self._name)
            pull.failure = str(error)
        pull.ended = time.monotonic()
        pull.over.set()
        if pull.failure is None:
            _log.info("pulled the image %s in %.1f s", self._name, pull.ended - pull.began)
        else:
            _log.warning("%s", self._absent(pull.failure))

    def _do_pull(self) -> str | None:
        repository, tag = parse_repository_tag(self._name)
        with self._engine.calling("pull the image", PULL_SILENCE_S) as client:
            for message in client.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in message:
                    return " ".join(str(message["error"]).split())[:300]
        return None

    def _absent(self, reason: str) -> str:
        return (
            f"the image {self._name} is not at the Docker Engine ({reason}); load it there "
            "(docker load), or name one that a registry within reach serves in "
            "LOWCODE_FAAS_NODE_DOCKER_IMAGE"
        )

    def _in_progress(self, pull: _Pull) -> str:
        seconds = time.monotonic() - pull.began
        return f"the image {self._name} is being pulled, since {seconds:.0f} s; try again later"
