"""The object store: bytes by key, over the plain S3 API through the ``minio`` client.

The client is blocking; calls run in a small pool of threads of their own.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from cosmop_common.errors import ChecksumError, ConflictError, NotFoundError, StorageFullError, StoreFailingError, UnreachableError
from cosmop_common.names import image_key, sha256_hex
from cosmop_common.settings import ConnectionSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

_MISSING = {"NoSuchKey", "NoSuchObject", "NoSuchBucket"}
_FULL = {"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}
_THREADS = 16
_TRIES = 4


class Store:
    """One bucket of an S3 server."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.endpoint = settings.s3_endpoint
        self.bucket = settings.s3_bucket
        self._client = Minio(
            settings.s3_endpoint,
            access_key=settings.s3_access_key or None,
            secret_key=settings.s3_secret_key.get_secret_value() or None,
            secure=settings.s3_secure,
            http_client=urllib3.PoolManager(
                maxsize=_THREADS, timeout=urllib3.Timeout(connect=3, read=60), retries=urllib3.Retry(total=2, connect=1, backoff_factor=0.2)
            ),
            # Without a region the client asks for it, one more round trip at start.
            region="us-east-1",
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")

    async def ensure_bucket(self) -> None:
        """Makes the bucket where there is none."""

        def make() -> None:
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket)
                except S3Error as error:
                    if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                        raise

        await self._run(make, self.bucket)

    async def ready(self) -> bool:
        """Whether the bucket answers now."""
        try:
            return await asyncio.wait_for(self._run(lambda: self._client.bucket_exists(self.bucket), self.bucket, tries=1), 3)
        except (UnreachableError, TimeoutError):
            return False

    async def wait_ready(self, seconds: float) -> None:
        """Waits until the bucket answers. Raises ``UnreachableError`` after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not await self.ready():
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"the object store at {self.endpoint} has no bucket {self.bucket!r} that answers: is it up, and was `cosmop provision` run? "
                    "COSMOP_S3_ENDPOINT says where it is"
                )
            await asyncio.sleep(0.3)

    async def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Stores bytes under a key, replacing what was there."""
        await self._run(lambda: self._client.put_object(self.bucket, key, io.BytesIO(data), len(data), content_type=content_type), key)

    async def put_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Stores bytes unless the key exists. Returns whether they were stored. For what must never change."""

        # The public put_object turns If-None-Match into a user header and overwrites silently: the header must be
        # signed, and only this call takes headers.
        def put() -> bool:
            try:
                self._client._put_object(self.bucket, key, data, {"If-None-Match": "*", "Content-Type": content_type})  # noqa: SLF001
            except S3Error as error:
                if error.code == "PreconditionFailed" or error.response.status == 412:  # noqa: PLR2004
                    return False
                raise
            return True

        return await self._run(put, key)

    async def put_image(self, data: bytes, media_type: str) -> str:
        """Stores an image under the sha256 of its bytes; returns that id."""
        image = sha256_hex(data)
        await self.put_new(image_key(image), data, media_type)
        return image

    async def get(self, key: str) -> bytes:
        """The bytes of a key. Raises ``NotFoundError``."""

        def get() -> bytes:
            response = self._client.get_object(self.bucket, key)
            try:
                return bytes(response.data)
            finally:
                response.close()
                response.release_conn()

        return await self._run(get, key)

    async def get_image(self, image: str) -> bytes:
        """An image's bytes, verified against its id. Raises ``NotFoundError``, ``ChecksumError``."""
        data = await self.get(image_key(image))
        if sha256_hex(data) != image:
            raise ChecksumError(f"{image_key(image)} does not hold the bytes of its name: the object was damaged; erase the image and scrape it again")
        return data

    async def exists(self, key: str) -> bool:
        """Whether a key exists."""
        try:
            await self._run(lambda: self._client.stat_object(self.bucket, key), key)
        except NotFoundError:
            return False
        return True

    async def delete(self, key: str) -> None:
        """Deletes a key; one that does not exist is deleted already."""
        await self._run(lambda: self._client.remove_object(self.bucket, key), key)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Keys under a prefix, in order."""
        keys = await self._run(lambda: [o.object_name or "" for o in self._client.list_objects(self.bucket, prefix, recursive=True)], prefix)
        for key in sorted(keys):
            yield key

    async def get_json(self, key: str) -> Any:
        """An object that holds JSON."""
        return json.loads(await self.get(key))

    async def put_json(self, key: str, value: Any) -> None:
        """Stores JSON."""
        await self.put(key, json.dumps(value, indent=1, ensure_ascii=False).encode(), "application/json")

    def close(self) -> None:
        """Waits for calls in flight."""
        self._threads.shutdown(wait=True)

    async def _run(self, call: Callable[[], T], key: str, tries: int = _TRIES) -> T:
        """Runs a blocking call in the pool; tries again where the server is away for a moment."""
        for attempt in range(tries):
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
            except S3Error as error:
                if error.code in _MISSING:
                    raise NotFoundError(f"{self.bucket}/{key} does not exist in the object store") from error
                if error.code == "PreconditionFailed":
                    raise ConflictError(f"{self.bucket}/{key} exists already") from error
                if error.code in _FULL:
                    raise StorageFullError(f"the object store at {self.endpoint} is full: free space or grow its volume ({error.message})") from error
                last: Exception = error
                if error.response.status < 500:  # noqa: PLR2004
                    break
            except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
                last = error
            if attempt + 1 < tries:
                await asyncio.sleep(0.3 * 3**attempt)
        if isinstance(last, S3Error) and last.response.status >= 500:  # noqa: PLR2004
            # Which servers say of a full disk too: SeaweedFS does.
            raise StoreFailingError(
                f"the object store at {self.endpoint} answered {last.code} for {self.bucket}/{key}: look at its log, and whether its disk is full"
            ) from last
        raise UnreachableError(f"the object store at {self.endpoint} did not serve {self.bucket}/{key}: {last}") from last
