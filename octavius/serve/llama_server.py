"""Answers questions by llama-server of llama.cpp, which takes the scale of each expert with each request.

The gate of an exported folder (`octavius export --format gguf`) is computed here; the language model and its experts
run there.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from octavius.display import visible
from octavius.instruction.batch import Example
from octavius.limits import SIZE_RANGE
from octavius.llama_cpp.gate import ExportedGate
from octavius.serve.backend import closed, prompt_of, too_long
from octavius.serve.llama_requests import Part, error_of, read_part, request_of
from octavius.serve.requests import RequestError
from octavius.serve.rows import Listener, Question, Row

if TYPE_CHECKING:
    from httpx2 import HTTPError

CONNECTING, WATCHING = 5.0, 0.05
"""Seconds within which llama-server has to take a connection, and between looks at whether a client has gone."""


class LlamaServer:
    """Forwards questions to llama-server with the weights of their experts; a context manager that closes it.

    Attributes:
        exported: the gate.
        batch_size: maximum number of requests at once.
        counts: numbers since the start, as the engine has them.
    """

    modalities: tuple[str, ...] = ()

    def __init__(self, exported: ExportedGate, url: str, batch_size: int = 8) -> None:
        """Connects to a running llama-server, and starts a thread for requests.

        Args:
            exported: gate of the export whose files the server has loaded.
            url: address of the server, such as `http://127.0.0.1:8080`.
            batch_size: maximum number of requests at once; the server has as many slots as its `--parallel` says.

        Raises:
            ValueError: the address is malformed, no llama-server answers there, or it has loaded other files.
        """
        from httpx2 import AsyncClient, Timeout

        SIZE_RANGE.check(batch_size=batch_size)
        _check_address(url)
        self.exported, self.batch_size, self.url = exported, batch_size, url.rstrip("/")
        self.counts = dict.fromkeys(("batches", "rows", "tokens", "prompt_tokens", "cancelled", "failed"), 0)
        self.waiting = self.running = 0
        self._tokenizing = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: float | None = None
        self._ending: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(batch_size)
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(
            base_url=self.url, timeout=Timeout(None, connect=CONNECTING), trust_env=False
        )
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="llama-server")
        self._thread.start()
        try:
            _, self._positions = asyncio.run_coroutine_threadsafe(self._look(), self._loop).result()
        except RequestError as error:
            self.close()
            self.join()
            raise ValueError(str(error)) from None

    def __enter__(self) -> "LlamaServer":
        """The backend itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it at once and waits for its thread."""
        self.close()
        self.join()

    @property
    def experts(self) -> int:
        """Number of experts."""
        return len(self.exported.experts)

    @property
    def alive(self) -> bool:
        """Whether questions are taken."""
        return self._end is None

    def prepare(self, question: Question) -> Row:
        """Builds the prompt and computes the weights of the experts, in the caller's thread.

        Raises:
            ValueError: the question is empty or too long, comes with media, or the weights do not fit the experts.
        """
        if media := sorted({*question.media, *(name for name, _ in question.placed)}):
            raise ValueError(
                f"this server answers text alone, found {' and '.join(media)}: llama-server has the "
                "language model without its encoders. Leave pictures and clouds out, or serve the checkpoint itself "
                "without --backend llama-server"
            )
        if question.experts is not None and len(question.experts) != self.experts:
            raise ValueError(
                f"expected {self.experts} weights, one for each expert, found {len(question.experts)} weights"
            )
        with self._tokenizing:
            sample, prompt = prompt_of(self.exported.prompts, question)
        room = min(self._positions, self.exported.positions) - len(prompt.ids)
        if room < 1:
            raise too_long(min(self._positions, self.exported.positions, self.exported.prompts.max_tokens))
        row = Row(
            question,
            Example(sample, prompt, {}),
            self.exported.prompts.tokenizer,
            self.exported.prompts.generation_template.end.strip(),
            min(question.max_new_tokens, room),
        )
        row.route(question.experts or self.exported.weights(prompt.gate_ids))
        return row

    def submit(self, row: Row, listener: Listener) -> Row:
        """Sends a prepared row, once.

        Args:
            row: from `prepare`.
            listener: called with each state of the answer.

        Raises:
            ClosedError: the server is shutting down.
        """
        row.listener = listener
        if self._end is not None:
            raise closed()
        self._loop.call_soon_threadsafe(self._start, row)
        return row

    def close(self, grace: float = 0.0) -> None:
        """Takes no more questions; answers that are not whole after `grace` seconds end with `ClosedError`.

        Returns at once, and may be called from a signal handler.
        """
        end = time.monotonic() + grace
        self._end = end if self._end is None else min(self._end, end)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._finish)

    def join(self, timeout: float | None = None) -> None:
        """Waits for the thread of a closed backend."""
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._loop.close()

    def _finish(self) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(self._finished())

    async def _finished(self) -> None:
        """Gives running answers their time, ends them and stops the loop."""
        while self._tasks and self._end is not None and time.monotonic() < self._end:
            await asyncio.wait(self._tasks, timeout=WATCHING)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._client.aclose()
        self._loop.stop()

    def _start(self, row: Row) -> None:
        task = self._loop.create_task(self._answer(row))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, row: Row) -> None:
        """Answers a row as soon as there is a place, until it is cancelled."""
        answering = asyncio.ensure_future(self._stream(row))
        try:
            while not row.cancelled and not answering.done():
                await asyncio.wait({answering}, timeout=WATCHING)
            if answering.done():
                answering.result()
            else:
                self.counts["cancelled"] += 1
                row.end_cancelled()
        except asyncio.CancelledError:
            self._fail(row, closed())
        except Exception as error:
            self._fail(row, error)
        finally:
            answering.cancel()

    def _fail(self, row: Row, error: Exception) -> None:
        self.counts["failed"] += 1
        row.fail(error)

    async def _stream(self, row: Row) -> None:
        """Sends the request and shows its answer as it comes.

        Raises:
            RequestError: llama-server does not answer, reports an error, or has loaded other files.
        """
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            ids, _ = await self._look()  # it may have been started anew with other files
            self.counts["batches"] += 1
            self.counts["rows"] += 1
            self.counts["prompt_tokens"] += row.answer.prompt_tokens
            text = ""
            async with aclosing(self._parts(request_of(row, ids))) as parts:
                async for part in parts:
                    text += part.content
                    self.counts["tokens"] += part.tokens - row.answer.tokens
                    row.show(text.strip(), part.tokens, part.finish)
                    if row.done or row.cancelled:
                        return  # leaving the stream makes llama-server stop
        finally:
            self.running -= 1
            self._places.release()

    async def _parts(self, body: Mapping[str, Any]) -> AsyncGenerator[Part]:
        """The parts of a streamed answer, the last one with `finish`."""
        from httpx2 import HTTPError

        try:
            async with self._client.stream("POST", "/completion", json=body) as response:
                if response.status_code != 200:
                    raise error_of(response.status_code, (await response.aread()).decode(errors="replace"))
                async for line in response.aiter_lines():
                    if line.startswith("error:"):
                        raise error_of(500, line)
                    if line.startswith("data:"):
                        part = read_part(line.removeprefix("data:"))
                        yield part
                        if part.finish is not None:
                            return
        except HTTPError as error:
            raise self._gone(error) from None
        raise RequestError("llama-server ended the answer halfway; ask again", status=502)

    async def _look(self) -> tuple[list[int], int]:
        """Looks at what the server has loaded.

        Returns:
            The id there of each expert, and the number of positions of a prompt with its answer.

        Raises:
            RequestError: it does not answer, or has loaded other files than the export's.
        """
        from httpx2 import HTTPError

        try:
            replies = [await self._client.get(path) for path in ("/lora-adapters", "/props")]
        except HTTPError as error:
            raise self._gone(error) from None
        for reply in replies:
            if reply.status_code != 200:
                raise error_of(reply.status_code, reply.text)
        try:
            adapters, properties = (reply.json() for reply in replies)
            found = {_name_of(one["path"]): int(one["id"]) for one in adapters}
            base = _name_of(properties["model_path"])
            positions = int(properties["default_generation_settings"]["n_ctx"])
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"what answers at {self.url} is not llama-server, or one of another version "
                f"({type(error).__name__}: {error})",
                status=502,
            ) from None
        if base != self.exported.base or sorted(found) != sorted(self.exported.experts):
            raise RequestError(
                "llama-server has loaded other files than those of this export: expected "
                f"{', '.join((self.exported.base, *self.exported.experts))}, found "
                f"{visible(', '.join((base, *found)), 400)}. Start it by the command in the README.md of the export",
                status=502,
            )
        return [found[name] for name in self.exported.experts], positions

    def _gone(self, error: "HTTPError") -> RequestError:
        """The error of a server that cannot be reached, or that broke the connection."""
        from httpx2 import ConnectError, ConnectTimeout

        if isinstance(error, ConnectError | ConnectTimeout):
            return RequestError(
                f"no llama-server answers at {self.url}; start it by the command in the README.md of the export",
                status=503,
            )
        return RequestError(
            f"the connection to llama-server at {self.url} broke ({type(error).__name__})", status=502
        )


def _check_address(url: str) -> None:
    """Checks the form of the server's address."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"url should be an address such as http://127.0.0.1:8080, found {url!r:.80}")


def _name_of(path: str) -> str:
    """The file name of a path on the server's machine, which may be another system."""
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
