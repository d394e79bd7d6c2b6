"""Whether an edit by hand compiles: asked once for each content, told once for each edit."""

from __future__ import annotations

import logging
import threading

from lowcode_faas_core.interfaces.storage import SourceChecker
from lowcode_faas_core.model import Language
from lowcode_faas_files.disk import Key
from lowcode_faas_files.reader import Working

__all__ = ["Syntax"]

log = logging.getLogger(__name__)

#: Contents and edits remembered at most.
MAX_REMEMBERED = 1000


class Syntax:
    """Remembers what was found wrong with which content. Threads share it.

    Without a checker, and where it cannot tell, every content is fine: an edit must not wait for
    ever because sandboxes are scarce.
    """

    def __init__(self) -> None:
        self.checker: SourceChecker | None = None
        self._faults: dict[tuple[str, Language], str] = {}
        self._told: dict[str, Key] = {}
        self._remembering = threading.Lock()

    def fault(self, working: Working, source: bytes) -> str | None:
        """Return what is wrong with an edit, and warn of each once; may take 2 s."""
        if self.checker is None:
            return None
        content = (working.sha256, working.language)
        found = self._faults.get(content)
        if found is None:
            fault = self.checker(source, working.language).fault
            if fault is None:
                return None
            found = str(fault)
        with self._remembering:
            for remembered in (self._faults, self._told):
                if len(remembered) >= MAX_REMEMBERED:
                    remembered.clear()
            self._faults[content] = found
            told, self._told[working.path] = self._told.get(working.path), working.key
        if told != working.key:
            log.warning("%s is not adopted: %s", working.shown, found)
        return found
