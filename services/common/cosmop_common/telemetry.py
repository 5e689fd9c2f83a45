"""Logs as JSON lines on stdout; the metrics that all services have."""

from __future__ import annotations

import datetime
import json
import logging
import sys

from prometheus_client import Counter, Gauge, Histogram

MESSAGES = Counter("cosmop_messages_total", "Messages consumed, by outcome.", ["consumer", "outcome"])
MESSAGE_SECONDS = Histogram("cosmop_message_seconds", "Seconds from delivery to outcome.", ["consumer"])
REQUESTS = Counter("cosmop_grpc_requests_total", "gRPC calls, by status.", ["method", "status"])
READY = Gauge("cosmop_ready", "1 while the service can do its work.")

_PLAIN = set(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and whatever ``extra`` holds."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({k: v for k, v in vars(record).items() if k not in _PLAIN and k not in {"message", "asctime", "taskName"}})
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure_logs(service: str, level: str) -> None:
    """Sends all logs of the process to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "urllib3", "uvicorn.access", "selenium", "matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
