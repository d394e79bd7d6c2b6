"""Every exception of the platform, modelled once.

A function's own failure is never one of these: it is a :class:`~lowcode_faas_core.model.RunResult`.
``api/problems.py`` is the only place that turns them into RFC 9457 answers.

    FaasError
      StartError                    the process refuses to start (exit code 2)
        ConfigurationError          one or more variables are wrong; all are reported together
        PluginError                 a plugin is unknown, doubled, broken or half-written
      RequestError                  the caller can mend it
        MalformedRequest      400   cannot be decoded
        ConflictingValues     400   the same thing said twice, differently
        Unauthenticated       401   no credentials, or not ours
        Forbidden             403   known caller, not allowed
        NotFound              404
          CollectionNotFound · FunctionNotFound · VersionNotFound · ExecutionsNotKept
        Conflict              409
          CollectionExists · CollectionNotEmpty · LanguageConflict · NameClash
          Superseded · VersionNotKept · ExecutionIdTaken · InputNotKept
        PayloadTooLarge       413
        UnsupportedMedia      415
        InvalidValue          422   well-formed but illegal; carries a JSON pointer
          SourceInvalid             no module: carries line and column where they are known
          SourceBlocked             a URL that may not be fetched from
        RateLimited           429   this token had its requests for now
      CapacityError           429   nothing ran; retry after a while
      PlatformError           5xx
        SourceCorrupt         500   stored bytes do not match their hash; never executed
        EnvCorrupt            500   a stored env cannot be read; never executed without it
        StorageUnavailable    503
          CommitUnknown       503   outcome: unknown
        StorageFull           507
        RunnerUnavailable     503
          ImageUnavailable    503
        Draining              503
        SourceUnavailable     502   the server of a source's URL failed
        UnconfirmedEnd        502   outcome: unknown
        WorkerLost            502   outcome: unknown
        WorkerSkew            502   the worker speaks another version
        WorkerTimeout         504   outcome: unknown
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "CapacityError",
    "CollectionExists",
    "CollectionNotEmpty",
    "CollectionNotFound",
    "CommitUnknown",
    "ConfigurationError",
    "Conflict",
    "ConflictingValues",
    "Draining",
    "EnvCorrupt",
    "ExecutionIdTaken",
    "ExecutionsNotKept",
    "FaasError",
    "Forbidden",
    "FunctionNotFound",
    "ImageUnavailable",
    "InputNotKept",
    "InvalidValue",
    "LanguageConflict",
    "MalformedRequest",
    "NameClash",
    "NotFound",
    "PayloadTooLarge",
    "PlatformError",
    "PluginError",
    "RateLimited",
    "RequestError",
    "RunnerUnavailable",
    "SourceBlocked",
    "SourceCorrupt",
    "SourceInvalid",
    "SourceUnavailable",
    "StartError",
    "StorageFull",
    "StorageUnavailable",
    "Superseded",
    "Unauthenticated",
    "UnconfirmedEnd",
    "UnsupportedMedia",
    "VersionNotFound",
    "VersionNotKept",
    "WorkerLost",
    "WorkerSkew",
    "WorkerTimeout",
]


class FaasError(Exception):
    """Raised by the platform; ``status`` is the HTTP status, ``code`` the stable machine name."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    #: What the caller can do about it, where the detail does not say; it stands after the detail.
    remedy: ClassVar[str] = ""
    #: ``executed``, ``not_executed`` or ``unknown`` where an invocation was involved.
    outcome: str | None = None
    #: Where an invocation's time went when its deadline passed: ``resolve``, ``queue``, ``start``,
    #: ``load``, ``run``, or ``worker`` when the worker did not say.
    phase: str | None = None
    #: Seconds after which it is worth another try, told with a 429 or 503.
    retry_after_s: int | None = None

    def __init__(self, detail: str = "", *, phase: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        if phase is not None:
            self.phase = phase


class StartError(FaasError):
    """Raised when the process cannot start as configured; the text is for the operator."""

    code = "start_error"
    title = "The service cannot start"
    #: What is odd besides, and may be why: variables that nobody declares.
    warnings: tuple[str, ...] = ()


class ConfigurationError(StartError):
    """Raised with every problem found in the environment, each naming its variable."""

    code = "configuration_error"
    title = "The configuration is not usable"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PluginError(StartError):
    """Raised when a selected plugin cannot be found, imported, or built."""

    code = "plugin_error"
    title = "A plugin cannot be used"


class RequestError(FaasError):
    """Raised for what the caller can mend."""

    status = 400
    code = "bad_request"
    title = "Bad request"


class MalformedRequest(RequestError):
    """Raised when bytes cannot be decoded: JSON, UTF-8, headers, percent-encoding."""

    code = "malformed_request"
    title = "The request cannot be decoded"


class ConflictingValues(RequestError):
    """Raised when one thing is given twice with different values."""

    code = "conflicting_values"
    title = "The same value was given twice, differently"


class Unauthenticated(RequestError):
    """Raised when the caller is not known."""

    status = 401
    code = "unauthenticated"
    title = "Credentials are required"


class Forbidden(RequestError):
    """Raised when the caller is known but may not do this."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFound(RequestError):
    """Raised when the thing named does not exist."""

    status = 404
    code = "not_found"
    title = "Not found"


class CollectionNotFound(NotFound):
    """Raised when a collection is not registered."""

    code = "collection_not_found"
    title = "No such collection"
    remedy = "POST /collections registers one"


class FunctionNotFound(NotFound):
    """Raised when a function does not exist in its collection."""

    code = "function_not_found"
    title = "No such function"


class VersionNotFound(NotFound):
    """Raised when a function never had this version."""

    code = "version_not_found"
    title = "No such version"


class ExecutionsNotKept(NotFound):
    """Raised where nothing keeps what ran."""

    code = "executions_not_kept"
    title = "No executions are kept"


class Conflict(RequestError):
    """Raised when the present state forbids the change."""

    status = 409
    code = "conflict"
    title = "Conflict"


class CollectionExists(Conflict):
    """Raised when the collection is registered already."""

    code = "collection_exists"
    title = "The collection exists"


class CollectionNotEmpty(Conflict):
    """Raised when a collection to be deleted still holds something."""

    code = "collection_not_empty"
    title = "The collection is not empty"


class LanguageConflict(Conflict):
    """Raised when a function exists in the other language under the same name."""

    code = "language_conflict"
    title = "The function exists in another language"
    remedy = "deploy it in that language, or delete the function first"


class NameClash(Conflict):
    """Raised when the file system cannot tell two names apart (``Greet`` and ``greet``)."""

    code = "name_clash"
    title = "The name clashes with another on this file system"


class Superseded(Conflict):
    """Raised when what was to be replaced is no longer the current deployment."""

    code = "superseded"
    title = "Another deployment came first"


class VersionNotKept(Conflict):
    """Raised when a version existed but its bytes are gone."""

    code = "version_not_kept"
    title = "The version's source was not kept"


class ExecutionIdTaken(Conflict):
    """Raised when a caller-chosen execution id is in use; nothing ran."""

    code = "execution_id_taken"
    title = "The execution id is taken"
    outcome = "not_executed"


class InputNotKept(Conflict):
    """Raised when an execution cannot be run again, since nobody knows its input any more."""

    code = "input_not_kept"
    title = "The input was not kept"
    outcome = "not_executed"


class PayloadTooLarge(RequestError):
    """Raised when a body or a part of it is larger than allowed."""

    status = 413
    code = "payload_too_large"
    title = "Too large"


class UnsupportedMedia(RequestError):
    """Raised for a content type or encoding that is not understood."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class InvalidValue(RequestError):
    """Raised for well-formed input with an illegal value.

    ``pointer`` is a JSON pointer (RFC 6901) into the body, or the name of the path or query
    parameter with ``where`` saying which.
    """

    status = 422
    code = "invalid_value"
    title = "An illegal value"

    def __init__(
        self, detail: str, pointer: str = "", *, where: str = "body", code: str | None = None
    ) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.where = where
        if code is not None:
            self.code = code  # type: ignore[misc]  # an instance may narrow its class's code


class SourceInvalid(InvalidValue):
    """Raised when a source is no module that Node accepts; ``line`` and ``column`` count from 1."""

    code = "source_invalid"
    title = "The source is not a module"

    def __init__(
        self,
        detail: str,
        pointer: str = "/source_code",
        *,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(detail, pointer)
        self.line = line
        self.column = column


class SourceBlocked(InvalidValue):
    """Raised for a URL that may not be fetched from, whatever is behind it."""

    code = "source_blocked"
    title = "The URL may not be fetched from"


class RateLimited(RequestError):
    """Raised when a token has made all the requests it may make in a second."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"
    retry_after_s = 1


class CapacityError(FaasError):
    """Raised when nothing could take the invocation in time; it was not executed."""

    status = 429
    code = "no_capacity"
    title = "No capacity"
    outcome = "not_executed"

    def __init__(
        self, detail: str = "", *, retry_after_s: int = 1, phase: str | None = None
    ) -> None:
        super().__init__(detail, phase=phase)
        self.retry_after_s = retry_after_s


class PlatformError(FaasError):
    """Raised for faults of the platform or of what it stands on."""

    status = 503
    code = "unavailable"
    title = "Unavailable"
    outcome = "not_executed"
    retry_after_s = 1


class SourceCorrupt(PlatformError):
    """Raised when stored bytes do not match their sha256; they are never executed."""

    status = 500
    code = "source_corrupt"
    title = "The stored source is corrupt"


class EnvCorrupt(PlatformError):
    """Raised when a stored env cannot be read; nothing is executed without it."""

    status = 500
    code = "env_corrupt"
    title = "The stored env is corrupt"


class SourceUnavailable(PlatformError):
    """Raised when the server of a source's URL cannot be reached, or fails."""

    status = 502
    code = "source_unavailable"
    title = "The source could not be fetched"


class StorageUnavailable(PlatformError):
    """Raised when the storage cannot be reached, read or written now."""

    code = "storage_unavailable"
    title = "The storage is unavailable"


class CommitUnknown(StorageUnavailable):
    """Raised when it cannot be known whether a write took effect."""

    outcome = "unknown"


class StorageFull(PlatformError):
    """Raised when the storage has no space left; what was there is still served."""

    status = 507
    code = "storage_full"
    title = "The storage is full"


class RunnerUnavailable(PlatformError):
    """Raised when no sandbox can be started; user code was not started."""

    code = "runner_unavailable"
    title = "The runner is unavailable"


class ImageUnavailable(RunnerUnavailable):
    """Raised when the image for user code is absent and cannot be pulled."""

    code = "image_unavailable"
    title = "The image for user code is unavailable"


class Draining(PlatformError):
    """Raised for new invocations while the service shuts down."""

    code = "draining"
    title = "The service is shutting down"


class UnconfirmedEnd(PlatformError):
    """Raised when user code outlived its deadline and its end could not be confirmed in time."""

    status = 502
    code = "unconfirmed_end"
    title = "The end of user code is not confirmed"
    outcome = "unknown"


class WorkerLost(PlatformError):
    """Raised when the worker vanished after the request was sent."""

    status = 502
    code = "worker_lost"
    title = "The worker was lost"
    outcome = "unknown"


class WorkerSkew(PlatformError):
    """Raised when dispatcher and worker speak different versions of the internal API."""

    status = 502
    code = "worker_skew"
    title = "Dispatcher and worker versions differ"


class WorkerTimeout(PlatformError):
    """Raised when the worker did not answer in time."""

    status = 504
    code = "worker_timeout"
    title = "The worker did not answer in time"
    outcome = "unknown"
    phase = "worker"
