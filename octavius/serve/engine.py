"""Answers questions over one loaded model, several at once, each with its own routing.

    with Engine(module) as engine:
        for answer in engine.stream(Question("Describe the picture.", media={"image": Media(path=path)})):
            print(answer.text, answer.weights)

One thread runs the model. It generates for up to `batch_size` rows at once, token by token. As soon as the rows that
have ended, and those that wait for a place, are as many as those that go on, the batch is put together anew, with the
prompts and the answers so far; the work that this repeats is at most as large as the new rows' own. A row that was
cancelled gets no further token, and costs nothing once the batch is put together anew; alone, it ends at once.

Each prompt is encoded and routed on its own, as `octavius predict` does, so that neither depends on the other rows.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor

from octavius.encoders.base import Encoder
from octavius.encoders.feature_cache import FeatureCache
from octavius.instruction.sample import Sample
from octavius.limits import SIZE_RANGE
from octavius.lora_moe.fixed import fixed_routing
from octavius.model import mean_gate
from octavius.serve.backend import ClosedError, closed, prompt_of, too_long
from octavius.serve.rows import Answer, Listener, Question, Row
from octavius.serve.steps import Sampling, Step, stacked
from octavius.suggestions import nearest
from octavius.training import OctaviusModule

WINDOW = 0.01
"""Seconds for which an idle engine waits for further questions before it starts with the first."""

LOG = logging.getLogger(__name__)


class Engine:
    """Answers questions in batches on a thread of its own; a context manager that closes it.

    Attributes:
        module: the model, in eval mode on its device.
        batch_size: maximum number of rows at once.
        counts: numbers since the start: batches, rows of batches, tokens, prompt tokens, cancelled and failed rows.
    """

    def __init__(self, module: OctaviusModule, batch_size: int = 8, window: float = WINDOW) -> None:
        """Starts the thread.

        Features that an encoder would cache on disk are kept in a temporary folder and deleted after use.

        Args:
            module: a loaded model, on the device that it is to run on.
            batch_size: maximum number of questions that are answered at once.
            window: seconds for which an idle engine waits for further questions.
        """
        SIZE_RANGE.check(batch_size=batch_size)
        self.module, self.batch_size, self.window = module.eval(), batch_size, window
        self.counts = dict.fromkeys(("batches", "rows", "tokens", "prompt_tokens", "cancelled", "failed"), 0)
        self._scratch = TemporaryDirectory(prefix="octavius-", ignore_cleanup_errors=True)
        self._caches = _redirect_caches(module, Path(self._scratch.name))
        self._tokenizing, self._loading = threading.Lock(), threading.Lock()
        self._incoming: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._waiting: deque[Row] = deque()
        self._active: list[Row] = []
        self._end: float | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="engine")
        self._thread.start()

    def __enter__(self) -> "Engine":
        """The engine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the engine at once and waits for its thread."""
        self.close()
        self.join()

    @property
    def experts(self) -> int | Sequence[int]:
        """Number of experts, or that of each layer; 0 without any."""
        lora = self.module.model.lora
        return 0 if lora is None else lora.experts

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that the model takes."""
        return tuple(self.module.processor.loaders)

    @property
    def alive(self) -> bool:
        """Whether the thread runs and questions are taken."""
        return self._thread.is_alive() and self._end is None

    @property
    def running(self) -> int:
        """Number of rows that are being answered."""
        return sum(not row.done for row in self._active)

    @property
    def waiting(self) -> int:
        """Number of rows that wait for a place in a batch."""
        return self._incoming.qsize() + len(self._waiting)

    def prepare(self, question: Question) -> Row:
        """Builds the prompt and loads the media, in the caller's thread.

        Raises:
            ValueError: the question is empty or too long, a medium cannot be read, has no placeholder or is of a
                modality that the model has no encoder for, or the weights of the experts do not fit the model.
        """
        processor, model = self.module.processor, self.module.model
        if question.experts is not None:
            model.check_forced(question.experts)
        named = {*question.media, *(name for name, _ in question.placed)}
        if unknown := sorted(named - {*self.modalities}):
            takes = ", ".join(self.modalities) or "text alone"
            raise ValueError(
                f"this model has no encoder for {', '.join(unknown)}{nearest(unknown[0], self.modalities)}; it "
                f"takes {takes}"
            )
        with self._tokenizing:
            sample, prompt = prompt_of(processor.prompts, question)
        if len(prompt.ids) >= self._positions():
            raise too_long(processor.prompts.max_tokens)
        try:
            with self._loading:
                media = self._load(sample)
            with self._tokenizing:
                example = processor.assemble(sample, question.text, None, media)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("sample request: ")) from None
        room = self._positions() - len(example.prompt.ids)
        if room < 1:  # by the sizes of the images
            raise too_long(processor.prompts.max_tokens)
        limit = min(question.max_new_tokens, room)
        end = processor.prompts.generation_template.end.strip()
        return Row(question, example, processor.prompts.tokenizer, end, limit, model.decoder.ends)

    def submit(self, row: Row, listener: Listener) -> Row:
        """Queues a prepared row, once.

        Args:
            row: from `prepare`.
            listener: called with each state of the answer.

        Raises:
            ClosedError: the engine is shutting down.
        """
        row.listener = listener
        self._incoming.put(row)
        if not self.alive:  # checked last: a thread that has just ended takes nothing from the queue
            raise closed()
        return row

    def stream(self, question: Question) -> Iterator[Answer]:
        """The states of an answer, the last one with `finish`; closing the iterator cancels it.

        Raises:
            ValueError: as in `prepare`.
            ClosedError: the engine is shutting down.
        """
        said: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        row = self.submit(self.prepare(question), said.put)
        try:
            while True:
                answer = said.get()
                if isinstance(answer, Exception):
                    raise answer
                yield answer
                if answer.finish is not None:
                    return
        finally:
            row.cancel()

    def close(self, grace: float = 0.0) -> None:
        """Takes no more questions; those that wait end with `ClosedError`, those that run do after `grace` seconds.

        Returns at once, and may be called from a signal handler.
        """
        end = time.monotonic() + grace
        self._end = end if self._end is None else min(self._end, end)
        self._incoming.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Waits for the thread of a closed engine, and deletes its temporary folder."""
        self._thread.join(timeout)
        self._scratch.cleanup()

    def _positions(self) -> int:
        """Number of positions that the language model has embeddings for."""
        config = self.module.model.decoder.lm.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        return most if isinstance(most, int) and most > 0 else 1 << 30

    def _load(self, sample: Sample) -> dict[str, list[Any]]:
        """The media of a sample, loaded; cached features are deleted afterwards."""
        try:
            self.module.model.prepare(lambda: [sample], self.module.device)
            return self.module.processor.load(sample)
        finally:
            for cache in self._caches:
                for file in cache.folder.glob("*.npy"):
                    file.unlink(missing_ok=True)

    def _work(self) -> None:
        """The thread: takes rows, runs them, until the engine is closed and all rows have ended."""
        while True:
            self._receive(block=not self._active)
            self._fill()
            if self._end is not None and not self._active:
                return
            try:
                self._run(self._active)
            except Exception as error:  # whatever a backend raises, such as a lack of memory
                self._recover(error)
            self._active = [row for row in self._active if not row.done]

    def _receive(self, block: bool) -> None:
        """Moves what was submitted to the queue; blocks for the first row, then waits `window` for others."""
        if block and not self._waiting and self._end is None:
            self._append(self._incoming.get())
            if self._waiting and self.batch_size > 1:
                time.sleep(self.window)
        with suppress(queue.Empty):
            while True:
                self._append(self._incoming.get_nowait())

    def _append(self, row: Row | None) -> None:
        if row is not None:
            self._waiting.append(row)

    def _fill(self) -> None:
        """Takes up waiting rows while there is room; a row that cannot be encoded ends alone."""
        while self._waiting and (self._end is not None or len(self._active) < self.batch_size):
            row = self._waiting.popleft()
            if row.cancelled:
                self._end_cancelled(row)
            elif self._end is not None:
                self._fail(row, closed())
            else:
                try:
                    self._begin(row)
                except Exception as error:
                    self._fail(row, error)
                else:
                    self._active.append(row)

    @torch.inference_mode()
    def _begin(self, row: Row) -> None:
        """Embeds and routes a prompt."""
        batch = self.module.processor.collate([row.example]).to(self.module.device)
        start = self.module.model.start(batch, row.question.experts)
        row.prompt, row.weights = (start.embeddings, batch.attention_mask), start.weights
        gate = mean_gate(start.choices, batch.attention_mask)
        row.route(None if gate is None else tuple(gate[0].tolist()))
        self.counts["prompt_tokens"] += row.answer.prompt_tokens

    @torch.inference_mode()
    def _run(self, rows: Sequence[Row], to_the_end: bool = False) -> None:
        """Generates until the batch is worth putting together anew, or all rows have ended.

        Args:
            rows: the rows of the batch.
            to_the_end: do not put it together anew, whoever waits.
        """
        for row in rows:
            self._check(row)
        rows = [row for row in rows if not row.done]
        if not rows:
            return
        self.counts["batches"] += 1
        self.counts["rows"] += len(rows)
        decoder, routing = self.module.model.decoder, self.module.model.routing
        prompts = [row.prompt for row in rows if row.prompt is not None]
        embeddings, mask = decoder.continued(prompts, [row.ids for row in rows])
        weights = stacked([row.weights for row in rows])

        def take(tokens: list[int]) -> list[bool]:
            if weights is None and any(not row.ids for row in rows):
                self._note_gates(rows, mask)
            self._take(rows, tokens)
            renew = not to_the_end and self._renew(rows)
            return [renew or row.done for row in rows]

        processors = [Sampling(rows)] if any(row.question.temperature for row in rows) else []
        most = max(row.limit - len(row.ids) for row in rows)
        held = nullcontext() if weights is None else routing.use(weights)
        with held, fixed_routing(decoder), routing.first_pass():
            decoder.generate(
                embeddings, mask, most, stopping_criteria=[Step(take)], logits_processor=processors
            )

    def _take(self, rows: Sequence[Row], tokens: Sequence[int]) -> None:
        """Hands each row its new token, unless it has ended."""
        with self._tokenizing:
            for row, token in zip(rows, tokens, strict=True):
                self._check(row)
                if not row.done:
                    self.counts["tokens"] += 1
                    row.take(token)

    def _note_gates(self, rows: Sequence[Row], mask: Tensor) -> None:
        """Notes the weights of gates in the layers, averaged over the prompt (B, T), for rows without a token yet."""
        gate = mean_gate(self.module.model.routing.noted(), mask)
        for index, row in enumerate(rows):
            if gate is not None and not row.ids:
                row.route(tuple(gate[index].tolist()))

    def _check(self, row: Row) -> None:
        """Ends a row that was cancelled, or that runs at the end of the engine's time."""
        if row.done:
            return
        if row.cancelled:
            self._end_cancelled(row)
        elif self._end is not None and time.monotonic() >= self._end:
            self._fail(row, closed())

    def _renew(self, rows: Sequence[Row]) -> bool:
        """Whether the running batch is to be put together anew (see the module's docstring)."""
        alive = sum(not row.done for row in rows)
        fresh = min(self.waiting, self.batch_size - alive)
        return alive > 0 and len(rows) - alive + fresh >= alive

    def _recover(self, error: Exception) -> None:
        """After a failed batch runs each of its rows alone, so that one does not take the others with it."""
        left = [row for row in self._active if not row.done]
        for row in left:
            try:
                if len(left) > 1:
                    self._run([row], to_the_end=True)
            except Exception as row_error:
                self._fail(row, row_error)
        if len(left) == 1:
            self._fail(left[0], error)

    def _end_cancelled(self, row: Row) -> None:
        self.counts["cancelled"] += 1
        row.end_cancelled()

    def _fail(self, row: Row, error: Exception) -> None:
        self.counts["failed"] += 1
        if not isinstance(error, ClosedError):
            LOG.error("a question could not be answered", exc_info=error)
        row.fail(error)


def _redirect_caches(module: OctaviusModule, folder: Path) -> list[FeatureCache]:
    """Lets the encoders cache features in a temporary folder, so that nothing of a request stays on the disk."""
    caches = []
    encoders = {name: cast(Encoder, encoder) for name, encoder in module.model.encoders.items()}
    for encoder in encoders.values():
        if isinstance(cache := getattr(encoder, "cache", None), FeatureCache):
            caches.append(replace(cache, root=folder))
            encoder.cache = caches[-1]  # type: ignore[assignment]
    module.processor.loaders |= {name: encoder.loader() for name, encoder in encoders.items()}
    return caches
