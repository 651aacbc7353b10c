"""Append-only cache of a language model's answers, so that no request is paid for twice."""

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
class Answer:
    """A model's answer.

    Attributes:
        text: the answer; empty if there is a fault.
        tokens_in: tokens of the prompt.
        tokens_out: tokens of the answer.
        fault: why there is no text; empty if there is.
    """

    text: str
    tokens_in: int
    tokens_out: int
    fault: str = ""


class Answers:
    """A JSON-lines file of answers, by request key.

    Each answer is appended and synced as soon as it arrives, so a run can be stopped at any time; a last line
    that was cut off is ignored.
    """

    def __init__(self, path: Path) -> None:
        """Reads an existing file; a missing one is created with the first answer."""
        self.path = path
        self._known: dict[str, Answer] = {}
        self._mend = False
        if path.is_file():
            content = read_bytes(path)
            self._mend = not content.endswith(b"\n") and bool(content)
            for line in content.splitlines():
                self._take(line)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, key: str) -> Answer:
        return self._known[key]

    def add(self, key: str, answer: Answer) -> None:
        """Stores one answer."""
        line = json_text({"key": key, **asdict(answer)}) + "\n"
        # unbuffered: one write per line, so that concurrent runs do not interleave
        with self.path.open("ab", buffering=0) as file:
            # After a line that was cut off, begin a new one.
            file.write((("\n" if self._mend else "") + line).encode())
            os.fsync(file.fileno())
        self._mend = False
        self._known[key] = answer

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            numbers = int(row["tokens_in"]), int(row["tokens_out"])
            answer = Answer(str(row["text"]), *numbers, str(row.get("fault", "")))
            self._known[str(row["key"])] = answer
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return


def key_of(base_url: str, body: Mapping[str, Any]) -> str:
    """The key of a request: a hash of endpoint, model, messages and settings."""
    content = json.dumps([base_url.rstrip("/"), body], sort_keys=True, ensure_ascii=False)
    return sha256(content.encode()).hexdigest()
