"""Answers of a language model come in and are kept, one a line; on the next run they come out again, for free."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a model said, and the tokens that it took."""

    text: str
    tokens_in: int
    tokens_out: int


class Answers:
    """A file of answers by the keys of their requests.

    A line is written as soon as an answer is there, at once and at the end, so that a run may be stopped at any
    time; a last line that a power cut left in half is passed over.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is there; a file that is not is made with the first answer."""
        self.path = path
        self._known: dict[str, Answer] = {}
        self._mend = False
        if path.is_file():
            content = path.read_bytes()
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
        """Keeps one answer."""
        line = json.dumps({"key": key, **asdict(answer)}, ensure_ascii=False) + "\n"
        with self.path.open("ab", buffering=0) as file:  # one write, so that two runs do not mix their lines
            file.write((("\n" if self._mend else "") + line).encode())
            os.fsync(file.fileno())
        self._mend = False
        self._known[key] = answer

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            answer = Answer(str(row["text"]), int(row["tokens_in"]), int(row["tokens_out"]))
            self._known[str(row["key"])] = answer
        except (ValueError, KeyError, TypeError):
            return


def key_of(base_url: str, body: Mapping[str, Any]) -> str:
    """The key of a request: the same for the same words to the same model with the same settings."""
    content = json.dumps([base_url.rstrip("/"), body], sort_keys=True, ensure_ascii=False)
    return sha256(content.encode()).hexdigest()
