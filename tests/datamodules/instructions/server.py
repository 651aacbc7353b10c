"""A real local server that plays a language model with given answers and faults."""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer of the server: its status, its body, and what goes wrong with it."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int = 0
    """The connection ends so many bytes before the body does."""
    reset: bool = False
    """The connection is reset before any word."""


@dataclass
class Server:
    """A server under way."""

    url: str
    bodies: list[Body] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@contextmanager
def serving(answer: Callable[[int, Body], Reply]) -> Iterator[Server]:
    """A server that answers the n-th request (from 0) with what `answer` says."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(state.bodies)
                state.bodies.append(body)
                state.times.append(time.monotonic())
                state.keys.append(self.headers["Authorization"])
            reply = answer(number, body)
            time.sleep(reply.delay)
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            try:
                self.wfile.write(reply.body[: len(reply.body) - reply.cut])
            except OSError:  # the other side has gone
                self.close_connection = True
            if reply.cut:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

        def finish(self) -> None:
            with suppress(OSError, ValueError):
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Server(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def saying(text: str, usage: bool = True) -> Reply:
    """The text in the form of a chat completion, for 100 tokens in and 10 out."""
    content: Body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
    }
    if usage:
        content["usage"] = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return Reply(body=json.dumps(content).encode())


def failing(status: int, **headers: str) -> Reply:
    """An error as endpoints tell it."""
    text = json.dumps({"error": {"message": "no luck today", "type": "x"}})
    return Reply(status, text.encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def honest(body: Body) -> list[Body]:
    """What a model would answer that reads its annotation and tells the truth: one pair of each kind asked for."""
    asked = body["messages"][1]["content"]
    listing, _, wanted = asked.partition("\nWrite these pairs:\n")
    numbered = re.findall(r"^(\d+): (.+?) \[", listing, re.MULTILINE)
    boxes = re.findall(r"^(\D+?) (\[.*\])$", listing, re.MULTILINE)
    objects: list[Body] = [{"class": name, "box": json.loads(box)} for name, box in boxes]
    objects = [{"id": number, "class": name} for number, name in numbered] or objects
    pairs = []
    for kind in re.findall(r"kind (\w+)", wanted):
        pair = {"kind": kind, "question": "What is this?", "answer": "It is there.", "objects": objects[:1]}
        if kind == "detection":
            pair |= {"question": "Box everything.", "answer": "", "objects": objects}
        elif kind in ("classification", "classification3d"):
            pair["answer"] = f"A {objects[0]['class']}."
        elif kind in ("VQA", "VQA3D"):
            pair |= {"question": f"Are there any {objects[0]['class']}s?", "answer": "Yes."}
        pairs.append(pair)
    return pairs
