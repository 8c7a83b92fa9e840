"""One log format for all lines, with the id of the request and without tokens."""

from __future__ import annotations

import logging
import re
import sys
import time

from dupq.service.request_ids import request_id

LEVELS = {"dupq": logging.INFO, "uvicorn": logging.INFO, "": logging.WARNING}
"""Logger -> the lowest level that it writes."""
_TOKEN = re.compile(r"(dupq_|whsec_)[\w+/=-]{8,}")


class LogFormatter(logging.Formatter):
    """Format a record as one line, and the traceback of an error below it.

    A line break in a message is escaped, so that no text of a user can look like a line of the log.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of logging
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        id_ = request_id.get()
        return super().formatMessage(record) + (f" request={id_}" if id_ else "")

    def format(self, record: logging.LogRecord) -> str:
        return _TOKEN.sub(r"\1***", super().format(record))


def configure_logs() -> None:
    """Write the logs of dupq and uvicorn on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    # The pipeline notes truncated texts; each answer has these warnings itself.
    handler.addFilter(lambda record: not (record.name.startswith("dupq") and record.module == "pipeline"))
    logging.getLogger().handlers = [handler]
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
