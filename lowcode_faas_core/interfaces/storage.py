"""Where collections, functions, sources and env live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lowcode_faas_core.interfaces.versioned import Versioned
from lowcode_faas_core.model import (
    Collection,
    Deployment,
    DeployOutcome,
    Draft,
    EnvLevel,
    Function,
    FunctionRef,
    Language,
    Page,
    Resolution,
    SourceCheck,
)
from lowcode_faas_core.names import ancestors

__all__ = ["Garbage", "SourceChecker", "Storage"]

#: Returns what is wrong with the syntax of a source, as far as anybody can tell within 2 s. Never
#: raises; may block that long.
SourceChecker = Callable[[bytes, Language], SourceCheck]


@dataclass(frozen=True)
class Garbage:
    """Something kept that nothing refers to; ``age_s`` in seconds."""

    what: str
    age_s: float
    removed: bool


class Storage(Versioned, ABC):
    """Keeps what was deployed.

    One object a process, built after the fork, used by many threads at once; one used across a
    fork all the same works or raises, and mixes nothing up. Names are checked before they arrive
    here, yet a storage must not be made to leave its own ground by any of them.
    Absent things raise ``…NotFound``, never answer ``None``. When the backend cannot be reached,
    methods raise :class:`~lowcode_faas_core.errors.StorageUnavailable`; when a write's fate is
    unknown, :class:`~lowcode_faas_core.errors.CommitUnknown`.

    A write that returned has happened and survives ``kill -9`` and power loss; one that raised
    may have happened or not, never half. After a write returned, every process that shares the
    backend sees it at its next read. ``StorageContract`` in ``lowcode_faas_core.testing`` checks
    all of this.
    """

    #: **Optional (default: no).** Whether all that :meth:`resolve` waits by is of
    #: ``lowcode_faas_core.lanes``; else it is asked in a thread where others would wait for it.
    on_lanes: bool = False

    #: **Optional (default: no).** Whether :meth:`deploy` looks at what a draft ``replaces``. Where it
    #: does not, a pull that others overtake may bring back what they deleted, or undo their limits.
    checks_replaced: bool = False

    @abstractmethod
    def create_collection(self, path: str, env: dict[str, str]) -> Collection:
        """**Required.** Register ``path``; unregistered parents are registered with empty env.

        :raises CollectionExists: when ``path`` itself is registered already.
        """

    @abstractmethod
    def collection(self, path: str) -> Collection:
        """**Required.** Return a registered collection. The root ``""`` always exists.

        :raises CollectionNotFound: when it is not registered.
        """

    @abstractmethod
    def collections(self, prefix: str, limit: int, cursor: str | None = None) -> Page[Collection]:
        """**Required.** List registered collections in code-point order of their path.

        ``prefix`` names a subtree: itself and everything below it; ``""`` lists all but the root.
        """

    @abstractmethod
    def delete_collection(self, path: str) -> None:
        """**Required.** Delete an empty collection with its env.

        :raises CollectionNotEmpty: when it holds functions or collections.
        :raises CollectionNotFound: when it is not registered.
        """

    @abstractmethod
    def collection_env(self, path: str) -> dict[str, str]:
        """**Required.** Return the env of one collection (``""``: the root's).

        :raises CollectionNotFound: when it is not registered.
        """

    @abstractmethod
    def set_collection_env(self, path: str, env: dict[str, str]) -> None:
        """**Required.** Replace the env of one collection.

        :raises CollectionNotFound: when it is not registered.
        """

    @abstractmethod
    def deploy(self, ref: FunctionRef, draft: Draft) -> DeployOutcome:
        """**Required.** Create the function, or add its next version and make it current.

        A draft whose bytes, language, reuse and limits equal the current deployment's makes no
        version (``created=False``); its env, when given, is still written. Versions count from 1
        and concurrent deploys get different ones. Deployment ids are unique for ever, also across
        delete and re-creation. With ``checks_replaced``, a draft that says what it ``replaces``
        changes nothing else: whether that is current is found out in the same step as the deploy.

        :raises CollectionNotFound: when the collection is not registered.
        :raises FunctionNotFound: when what it replaces was deleted.
        :raises Superseded: when that is not the current deployment.
        :raises LanguageConflict: when the function exists in the other language.
        """

    @abstractmethod
    def deployment(self, ref: FunctionRef, version: int | None = None) -> Deployment:
        """**Required.** Return the current deployment, or the given version: metadata only.

        :raises FunctionNotFound: when there is no such function.
        :raises VersionNotFound: when the function never had that version.
        :raises VersionNotKept: when it had, but the bytes are gone.
        """

    @abstractmethod
    def deployment_by_id(self, deployment_id: str, ref: FunctionRef) -> Deployment:
        """**Required.** Return the deployment with this id; ``ref`` says where to look.

        :raises FunctionNotFound: when there is no such function.
        :raises VersionNotFound: when it has no such deployment, or it is no longer kept.
        """

    @abstractmethod
    def source(self, deployment: Deployment) -> bytes:
        """**Required.** Return exactly the deployed bytes.

        :raises SourceCorrupt: when the stored bytes do not match ``deployment.sha256``.
        :raises VersionNotKept: when the bytes are gone.
        """

    @abstractmethod
    def versions(self, ref: FunctionRef, limit: int, cursor: str | None = None) -> Page[Deployment]:
        """**Required.** List what can still be pinned or restored, newest first.

        :raises FunctionNotFound: when there is no such function.
        """

    @abstractmethod
    def rollback(self, ref: FunctionRef, version: int) -> Deployment:
        """**Required.** Deploy an older version's snapshot again, as a new version.

        The new row has ``restored_from=version``. Rolling back to the current version makes a
        row, too: the caller asked for one.

        :raises FunctionNotFound: when there is no such function.
        :raises VersionNotFound: when the function never had that version.
        :raises VersionNotKept: when its bytes are gone.
        """

    @abstractmethod
    def function(self, ref: FunctionRef) -> Function:
        """**Required.** Return one function.

        :raises FunctionNotFound: when there is no such function.
        """

    @abstractmethod
    def functions(
        self, collection_path: str, limit: int, cursor: str | None = None
    ) -> Page[Function]:
        """**Required.** List the functions of one collection (not below it) in order of name.

        A function that cannot be read must not hide the others.

        :raises CollectionNotFound: when the collection is not registered.
        """

    @abstractmethod
    def delete_function(self, ref: FunctionRef) -> None:
        """**Required.** Remove the function, its env and its versions. Running ones go on.

        :raises FunctionNotFound: when there is no such function.
        """

    @abstractmethod
    def function_env(self, ref: FunctionRef) -> dict[str, str]:
        """**Required.** Return the function's own env.

        :raises FunctionNotFound: when there is no such function.
        """

    @abstractmethod
    def set_function_env(self, ref: FunctionRef, env: dict[str, str]) -> None:
        """**Required.** Replace the function's own env; makes no version.

        :raises FunctionNotFound: when there is no such function.
        """

    def check_sources_with(self, checker: SourceChecker) -> None:  # optional
        """**Optional (default: ignore it).** Take the means to check a source's syntax.

        For backends whose sources people may edit past the API: what ``checker`` refuses must not
        become current. Called once, before the first use, and only where sandboxes can be had.
        """

    def degraded(self) -> list[str]:
        """**Optional (default: nothing).** Say what does not work now and stops no warm invocation.

        Asked by ``/readyz``: answers within seconds, also when nothing else answers. Never raises.
        """
        return []

    def migrate(self) -> list[str]:
        """**Optional (default: nothing to do).** Bring the backend's schema up to date.

        Returns what was done, one step each. The first use does the same; this is for operators
        who want it done before a new release serves.
        """
        return []

    def collect_garbage(self, *, min_age_s: float, remove: bool) -> Iterator[Garbage]:
        """**Optional (default: there is none).** Find, and with ``remove`` delete, what no row needs.

        Younger than ``min_age_s`` may be a deploy under way, and stays. What a row needs is never
        touched, whatever is wrong with it.
        """
        del min_age_s, remove
        return iter(())

    def missing(self) -> Iterator[str]:
        """**Optional (default: nothing).** Find rows whose bytes are gone, one sentence each."""
        return iter(())

    @abstractmethod
    def check(self) -> None:
        """**Required.** Return when the backend works now, else raise ``StorageUnavailable``."""

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice."""

    def resolve(self, ref: FunctionRef, version: int | None = None) -> Resolution:
        """**Optional (default: from the other methods).** What one invocation needs, at once.

        The levels are the ancestor collections, root first, then the function, all as they were at
        one moment: the default is for backends that nobody writes to between two of its calls. One
        that can answer in one round trip should: it is on the hot path of every invocation.

        :raises FunctionNotFound: when there is no such function (or collection).
        :raises VersionNotFound: when the function never had that version.
        :raises VersionNotKept: when its bytes are gone.
        """
        deployment = self.deployment(ref, version)
        levels = [
            EnvLevel("collection", path, self.collection_env(path))
            for path in ancestors(ref.collection_path)
        ]
        levels.append(EnvLevel("function", str(ref), self.function_env(ref)))
        return Resolution(deployment, tuple(levels))

    def known(self, ref: FunctionRef, version: int | None = None) -> Resolution | None:
        """**Optional (default: nothing).** What :meth:`resolve` would return now, if that is at hand.

        Called where all invocations of a process wait for it: memory and a look at a few local files
        is what it may take, no lock that is held for longer, and no word to another host. ``None``
        means that :meth:`resolve` is to be asked; whatever is wrong is for that to say.
        """
        return None
