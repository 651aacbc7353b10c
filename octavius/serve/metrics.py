"""Counts of the server in Prometheus' text format."""

from collections import Counter
from collections.abc import Iterator

from octavius.serve.backend import Backend

BOUNDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Upper bounds in seconds of the histogram of durations."""

HELP = {
    "batches": "Batches that were put together.",
    "rows": "Rows of these batches; divided by the batches, their mean size.",
    "tokens": "Generated tokens.",
    "prompt_tokens": "Positions of the prompts, including those of media.",
    "cancelled": "Answers that were cancelled, mostly because the client had gone.",
    "failed": "Answers that ended with an error.",
}
"""What the engine counts."""


class Metrics:
    """Requests by path and status, and the durations of answered questions."""

    def __init__(self, engine: Backend) -> None:
        """Starts at zero."""
        self.engine = engine
        self.open = 0
        self._statuses: Counter[tuple[str, int]] = Counter()
        self._durations: list[int] = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def note(self, route: str, status: int, seconds: float) -> None:
        """Counts a response; the duration of an answered question enters the histogram."""
        self._statuses[route, status] += 1
        if route == "/v1/chat/completions" and status == 200:
            self._durations[sum(seconds > bound for bound in BOUNDS)] += 1
            self._seconds += seconds

    def text(self) -> str:
        """All metrics."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "HTTP responses.")
        for (route, status), count in sorted(self._statuses.items()):
            yield f'octavius_requests_total{{route="{route}",status="{status}"}} {count}'
        for name, value, said in (
            ("open_requests", self.open, "Chat requests that were admitted and are not finished."),
            ("running_rows", self.engine.running, "Questions that are being answered."),
            ("waiting_rows", self.engine.waiting, "Questions that wait for a place in a batch."),
        ):
            yield from _head(name, "gauge", said)
            yield f"octavius_{name} {value}"
        for name, said in HELP.items():
            yield from _head(f"{name}_total", "counter", said)
            yield f"octavius_{name}_total {self.engine.counts[name]}"
        yield from _head("answer_seconds", "histogram", "Time from a request to the end of its answer.")
        below = 0
        for bound, count in zip((*BOUNDS, "+Inf"), self._durations, strict=True):
            below += count
            yield f'octavius_answer_seconds_bucket{{le="{bound}"}} {below}'
        yield f"octavius_answer_seconds_sum {self._seconds:.6f}"
        yield f"octavius_answer_seconds_count {below}"


def _head(name: str, kind: str, said: str) -> list[str]:
    return [f"# HELP octavius_{name} {said}", f"# TYPE octavius_{name} {kind}"]
