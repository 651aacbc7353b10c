"""The journal of a language model's answers: one a line, written at once, so that no request is paid for twice."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from octavius.display import json_text


@dataclass(frozen=True)
class Answer:
    """What a model said, the tokens that it took, and why there is no text where there is none."""

    text: str
    tokens_in: int
    tokens_out: int
    fault: str = ""


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
        line = json_text({"key": key, **asdict(answer)}) + "\n"
        with self.path.open("ab", buffering=0) as file:  # one write, so that two runs do not mix their lines
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
    """The key of a request: the same for the same words to the same model with the same settings."""
    content = json.dumps([base_url.rstrip("/"), body], sort_keys=True, ensure_ascii=False)
    return sha256(content.encode()).hexdigest()
