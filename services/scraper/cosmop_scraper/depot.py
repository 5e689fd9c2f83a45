"""Where images go: one conditional PUT each, over connections of the event loop.

S3 signs the sha256 of a body along with the request (AWS Signature Version 4); that is an image's id, counted already by the
verifier. So nothing is hashed a second time, and no thread is woken. What the store answers besides "stored" and "exists" is
left to ``Store``, which knows its errors and tries again.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time

from cosmop_common.names import image_key
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store

from cosmop_scraper.connections import Connections
from cosmop_scraper.errors import WireError
from cosmop_scraper.exchange import Request
from cosmop_scraper.wire import Backend

log = logging.getLogger(__name__)

_REGION = "us-east-1"
_SIGNED = "content-type;host;if-none-match;x-amz-content-sha256;x-amz-date"
_CONNECTIONS = 16
_IDLE_SECONDS = 15.0
_CONNECT_SECONDS, _ANSWER_SECONDS = 3.0, 60.0
_STORED, _EXISTS = 200, 412


class Depot:
    """Images of the object store, by their ids. Close it."""

    def __init__(self, store: Store, settings: ConnectionSettings) -> None:
        self._store = store
        self._key, self._secret = settings.s3_access_key, settings.s3_secret_key.get_secret_value()
        self._scheme = "https" if settings.s3_secure else "http"
        default = 443 if settings.s3_secure else 80
        self._host, _, port = settings.s3_endpoint.partition(":")
        self._port = int(port) if port.isdigit() else default
        self._netloc = self._host if self._port == default else f"{self._host}:{self._port}"
        self._connections = Connections(Backend(), most=_CONNECTIONS, idle_seconds=_IDLE_SECONDS)
        self._day, self._day_key = "", b""
        #: Anonymous stores, and those that want to be asked otherwise, are left to ``Store``.
        self._direct = bool(self._key and self._secret)

    async def put(self, image: str, data: bytes, media_type: str) -> None:
        """Stores an image's bytes unless they are there already.

        Args:
            image: sha256 of ``data``.

        Raises:
            StorageFullError, UnreachableError: the store is full or away.
        """
        if self._direct and await self._put(image, data, media_type):
            return
        await self._store.put_new(image_key(image), data, media_type)

    async def close(self) -> None:
        """Closes all connections."""
        await self._connections.close()

    async def _put(self, image: str, data: bytes, media_type: str) -> bool:
        try:
            async with self._connections.answer(self._request(image, data, media_type)) as answer:
                async for _ in answer.aiter_stream():
                    pass
        except (WireError, OSError) as error:
            log.info("the object store is asked again: %s", error)
            return False
        if 400 <= answer.status < 500 and answer.status not in {408, _EXISTS, 429}:  # noqa: PLR2004
            # It will not like the next one either: a proxy that signs otherwise, a region of its own.
            self._direct = False
        if answer.status in {_STORED, _EXISTS}:
            return True
        log.info("the object store is asked again: it answers with status %d", answer.status)
        return False

    def _request(self, image: str, data: bytes, media_type: str) -> Request:
        """A signed PUT (AWS, "Signature Version 4 signing process"; the canonical request has its fields sorted)."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = f"/{self._store.bucket}/{image_key(image)}"
        fields = f"content-type:{media_type}\nhost:{self._netloc}\nif-none-match:*\nx-amz-content-sha256:{image}\nx-amz-date:{now}\n"
        canonical = f"PUT\n{target}\n\n{fields}\n{_SIGNED}\n{image}"
        scope = f"{now[:8]}/{_REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(now[:8]), text.encode(), "sha256").hex()
        headers = {
            "content-type": media_type,
            "host": self._netloc,
            "if-none-match": "*",
            "x-amz-content-sha256": image,
            "x-amz-date": now,
            "authorization": f"AWS4-HMAC-SHA256 Credential={self._key}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}",
        }
        return Request(
            self._scheme, self._host, self._port, target, headers, method="PUT", body=data, connect_timeout=_CONNECT_SECONDS, read_timeout=_ANSWER_SECONDS
        )

    def _key_of(self, day: str) -> bytes:
        """The signing key of a day."""
        if day != self._day:
            key = f"AWS4{self._secret}".encode()
            for part in (day, _REGION, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._day_key = day, key
        return self._day_key
