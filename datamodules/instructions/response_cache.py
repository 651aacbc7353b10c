"""Append-only cache of a language model's responses, so that no request is paid for twice."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from octavius.display import json_text
from octavius.files import read_bytes


@dataclass(frozen=True)
class Response:
    """A model's response.

    Attributes:
        text: its text; empty if there is a fault.
        tokens_in: tokens of the prompt.
        tokens_out: tokens of the response.
        fault: why there is no text; empty if there is.
    """

    text: str
    tokens_in: int
    tokens_out: int
    fault: str = ""


class ResponseCache:
    """A JSON-lines file of responses, by request key.

    Each response is appended and synced as soon as it arrives, so a run can be stopped at any time; a last line
    that was cut off is ignored.
    """

    def __init__(self, path: Path) -> None:
        """Reads an existing file; a missing one is created with the first response."""
        self.path = path
        self._known: dict[str, Response] = {}
        self._cut = False
        if path.is_file():
            content = read_bytes(path)
            self._cut = not content.endswith(b"\n") and bool(content)
            for line in content.splitlines():
                self._take(line)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, key: str) -> Response:
        return self._known[key]

    def add(self, key: str, response: Response) -> None:
        """Stores one response."""
        line = json_text({"key": key, **asdict(response)}) + "\n"
        # unbuffered: one write per line, so that concurrent runs do not interleave
        with self.path.open("ab", buffering=0) as file:
            # After a last line that was cut off, begin a new line.
            file.write((("\n" if self._cut else "") + line).encode())
            os.fsync(file.fileno())
        self._cut = False
        self._known[key] = response

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            numbers = int(row["tokens_in"]), int(row["tokens_out"])
            response = Response(str(row["text"]), *numbers, str(row.get("fault", "")))
            self._known[str(row["key"])] = response
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return


def key_of(base_url: str, body: Mapping[str, Any]) -> str:
    """The key of a request: a hash of endpoint, model, messages and settings."""
    content = json.dumps([base_url.rstrip("/"), body], sort_keys=True, ensure_ascii=False)
    return sha256(content.encode()).hexdigest()
