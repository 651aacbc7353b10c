"""Benchmark of `octavius serve`: throughput with several clients against one.

    python bench/serving.py --ckpt last.ckpt --images data/miniature/seen/coco/val2017 --clients 1 8

Server and clients run in this process and talk over a local socket; the clients are OpenAI's. Each asks one question
about one picture after another and waits for each answer. A check before timing asserts that all numbers of clients
get the same answers. Each round asks all questions once with every number of clients; ratios are medians over rounds,
the spread is their interquartile range. Tokens per second of processor time, of server and clients together, are what
other load on the machine affects little.
"""

import argparse
import base64
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import openai
import torch
import uvicorn
from measuring import machine, table

from octavius.checkpoint.load import load
from octavius.cli.serve import listening
from octavius.presets import find_checkpoint
from octavius.serve.app import Limits, build_app
from octavius.serve.engine import Engine

QUESTIONS = ("Describe the picture.", "Detect all the objects in the picture.", "What is in the picture?")


@contextmanager
def served(ckpt: str, batch_size: int) -> Any:
    """A running server; gives its engine and its address."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    module = load(find_checkpoint(ckpt)).to(device or "cpu")
    with Engine(module, batch_size) as engine, listening("127.0.0.1", 0) as listener:
        app = build_app(engine, Limits())
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield engine, f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        thread.join()


def message(question: str, picture: Path) -> dict[str, Any]:
    """A user message with a picture."""
    url = f"data:image/jpeg;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return {"role": "user", "content": parts}


def ask_all(
    client: openai.OpenAI, messages: list[dict[str, Any]], tokens: int, clients: int
) -> list[tuple[str, int]]:
    """The answer to each message and its number of tokens, asked by so many clients at once."""

    def ask(one: dict[str, Any]) -> tuple[str, int]:
        found = client.chat.completions.create(model="octavius", messages=[one], max_tokens=tokens)  # type: ignore[list-item]
        assert found.usage is not None
        return found.choices[0].message.content or "", found.usage.completion_tokens

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(ask, messages))


def timed(run: Callable[[], list[tuple[str, int]]]) -> tuple[float, float]:
    """Tokens per second of wall-clock time, and of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    tokens = sum(count for _, count in run())
    return tokens / (time.perf_counter() - wall), tokens / (time.process_time() - processor)


def main() -> None:
    """Prints one table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--ckpt", default="last.ckpt")
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG pictures")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--questions", type=int, default=32, help="per round and number of clients")
    parser.add_argument("--tokens", type=int, default=64, help="limit of an answer")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pictures = sorted(options.images.glob("*.jpg"))[: options.questions]
    messages = [message(QUESTIONS[index % len(QUESTIONS)], picture) for index, picture in enumerate(pictures)]
    with served(options.ckpt, options.batch_size) as (engine, address):
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=600)
        ask = partial(ask_all, client, messages, options.tokens)
        answers = {clients: ask(clients) for clients in options.clients}
        first, *others = answers.values()
        assert all(other == first for other in others), "answers depend on the number of clients"
        length = statistics.mean(count for _, count in first)
        taken: dict[int, list[tuple[float, float]]] = {clients: [] for clients in options.clients}
        sizes: dict[int, float] = {}
        for _ in range(options.rounds):
            for clients, speeds in taken.items():
                rows, batches = engine.counts["rows"], engine.counts["batches"]
                speeds.append(timed(partial(ask, clients)))
                sizes[clients] = (engine.counts["rows"] - rows) / (engine.counts["batches"] - batches)
    print(f"{len(messages)} questions, answers of {length:.1f} tokens on average; {machine()}\n")
    rows_ = [
        [str(clients), f"{sizes[clients]:.1f}", *compared(taken[options.clients[0]], speeds)]
        for clients, speeds in taken.items()
    ]
    named = "clients", "rows per batch", "tokens/s", "x first", "spread", "tokens per CPU second", "x first"
    print(table(named, rows_))


def compared(first: list[tuple[float, float]], speeds: list[tuple[float, float]]) -> list[str]:
    """Cells of a row: speeds, and their ratios to those of the first row."""
    walls, processors = zip(*speeds, strict=True)
    by_wall = [one[0] / other[0] for one, other in zip(speeds, first, strict=True)]
    by_processor = [one[1] / other[1] for one, other in zip(speeds, first, strict=True)]
    low, _, high = statistics.quantiles(by_wall, method="inclusive")
    return [
        f"{statistics.median(walls):.0f}",
        f"{statistics.median(by_wall):.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{statistics.median(processors):.0f}",
        f"{statistics.median(by_processor):.2f}",
    ]


if __name__ == "__main__":
    main()
