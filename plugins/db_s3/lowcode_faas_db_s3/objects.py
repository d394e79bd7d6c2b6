"""The bucket: immutable objects under keys of their own, and nothing else is asked of S3.

No metadata, no conditional writes, no listing on the way of a deploy or an invocation: servers
that speak S3 differ in all of these.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import boto3
import botocore.config
import botocore.exceptions

from lowcode_faas_core.errors import StorageFull, StorageUnavailable
from lowcode_faas_db_s3.probe import Probe
from lowcode_faas_db_s3.settings import S3Settings

__all__ = ["READ_S", "Bucket", "NoSuchObject", "StoredObject"]

#: Seconds for a connection to S3, and for each silence in an answer.
CONNECT_S: Final = 2.0
READ_S: Final = 5.0
#: Requests are tried so often at most, with a growing pause; a PUT of the same bytes is safe.
ATTEMPTS: Final = 2
_FOLDER: Final = "deployments/"


class NoSuchObject(Exception):
    """Raised when the bucket answers and has no such object."""


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it."""

    key: str
    modified: datetime


class Bucket:
    """The sources' objects in one bucket; used by many threads at once.

    Every method raises ``StorageUnavailable`` when S3 refuses or does not answer.
    """

    def __init__(self, settings: S3Settings, *, read_s: float = READ_S) -> None:
        self._name = settings.bucket
        self._prefix = settings.prefix
        self._pid = os.getpid()
        self._probe = Probe(self.look, "S3: no answer")
        self._client: Any = boto3.session.Session().client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.endpoint or None,
            aws_access_key_id=settings.access_key or None,
            aws_secret_access_key=settings.secret_key or None,
            config=botocore.config.Config(
                signature_version="s3v4",
                connect_timeout=CONNECT_S,
                read_timeout=read_s,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                # Compatible servers of several makes know no trailing checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if settings.path_style else "virtual"},
            ),
        )

    def key_for(self, deployment_id: str, suffix: str) -> str:
        """Return where a deployment's source is put; no key is the folder of another."""
        return f"{self._prefix}{_FOLDER}{deployment_id}{suffix}"

    def put(self, key: str, content: bytes) -> None:
        """Store an object; it is there when this returns."""
        self._call("put_object", Key=key, Body=content)

    def get(self, key: str, size: int) -> bytes:
        """Return an object's bytes, at most one more than ``size``: more would be another's.

        :raises NoSuchObject: when there is none.
        """
        body = self._call("get_object", Key=key)["Body"]
        try:
            content: bytes = body.read(size + 1)
        except (botocore.exceptions.BotoCoreError, OSError) as error:
            raise StorageUnavailable(f"S3: {type(error).__name__}") from error
        finally:
            body.close()
        return content

    def listing(self) -> Iterator[StoredObject]:
        """Iterate over all objects of deployments."""
        token: dict[str, Any] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=self._prefix + _FOLDER, **token)
            for entry in page.get("Contents", ()):
                yield StoredObject(entry["Key"], entry["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def holds(self, key: str) -> bool:
        """Tell whether an object is there."""
        try:
            self._call("head_object", Key=key)
        except NoSuchObject:
            return False
        return True

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone already is no error.

        One by one: a bulk delete wants a checksum that some servers do not know.
        """
        with contextlib.suppress(NoSuchObject):
            self._call("delete_object", Key=key)

    def problem(self) -> str | None:
        """Say what keeps the bucket from being used now; answers within a moment."""
        return self._probe.answer()

    def date(self) -> str:
        """Return the time at the server as its answers say it, ``""`` when they do not."""
        headers = self._call("head_bucket")["ResponseMetadata"].get("HTTPHeaders", {})
        return str(headers.get("date", ""))

    def close(self) -> None:
        """Close the connections; may be called twice."""
        if os.getpid() == self._pid:
            self._client.close()

    def look(self) -> str | None:
        """Ask now, within the time limits of one call, and say what is wrong."""
        try:
            self._call("head_bucket")
        except NoSuchObject:
            return f"S3: no bucket {self._name}"
        except (StorageUnavailable, StorageFull) as error:
            return error.detail
        return None

    def _call(self, operation: str, **arguments: Any) -> Any:
        if os.getpid() != self._pid:
            raise StorageUnavailable("this storage was opened before a fork; open one in the child")
        try:
            return getattr(self._client, operation)(Bucket=self._name, **arguments)
        except botocore.exceptions.ClientError as error:
            answer = error.response.get("Error", {})
            code = str(answer.get("Code", ""))
            if code in ("NoSuchKey", "404", "NotFound"):
                raise NoSuchObject(arguments.get("Key", self._name)) from error
            if code in ("QuotaExceeded", "InsufficientStorage", "507"):
                raise StorageFull(f"S3: {code}") from error
            raise StorageUnavailable(f"S3: {code} at {operation} of {self._name}") from error
        except (botocore.exceptions.BotoCoreError, OSError) as error:
            # Not its text: endpoints and proxies are the operator's, answers go to callers.
            raise StorageUnavailable(f"S3: {type(error).__name__} at {operation}") from error
