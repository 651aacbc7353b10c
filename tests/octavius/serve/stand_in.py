"""A stand-in for llama-server: its routes with scripted answers, over a socket."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def event(content: str, tokens: int, **more: Any) -> dict[str, Any]:
    """An event of a streamed completion."""
    return {"index": 0, "content": content, "tokens": [], "stop": False, "tokens_predicted": tokens, **more}


ANSWER = [
    event(" a", 1),
    event(" red", 2),
    event(" circle\U0001f534", 5),
    event("", 6, stop=True, stop_type="eos"),
]


@dataclass
class StandIn:
    """What the stand-in answers, and what it was asked.

    Attributes:
        base: path of its model.
        adapters: paths of its adapters.
        events: events of every answer; a string is sent as it is, None waits.
        status: status of `/completion`, with `error` as its body where that is not 200.
        error: see `status`.
        loading: whether every route says that the model is being loaded.
        asked: bodies of the requests to `/completion`.
        dropped: number of answers whose client went away.
    """

    base: str
    adapters: list[str]
    events: list[dict[str, Any] | str | None] = field(default_factory=lambda: list(ANSWER))
    status: int = 200
    error: Any = None
    loading: bool = False
    positions: int = 128
    asked: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0
    url: str = ""


@contextmanager
def running(state: StandIn) -> Iterator[StandIn]:
    """Runs a stand-in on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            adapters = [
                {"id": index, "path": path, "scale": 1.0} for index, path in enumerate(state.adapters)
            ]
            settings = {"n_ctx": state.positions}
            properties = {"model_path": state.base, "default_generation_settings": settings, "total_slots": 2}
            if state.loading:
                self.send(
                    503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
                )
            else:
                self.send(200, {"/lora-adapters": adapters, "/props": properties}[self.path])

        def do_POST(self) -> None:
            state.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if state.status != 200:
                self.send(state.status, state.error)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for one in state.events:
                    while one is None:
                        time.sleep(0.02)
                        self.chunk(": ping\n\n")
                    self.chunk(one if isinstance(one, str) else f"data: {json.dumps(one)}\n\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                state.dropped += 1
                self.close_connection = True

        def chunk(self, text: str) -> None:
            content = text.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            self.wfile.flush()

        def send(self, status: int, content: Any) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")  # or a connection would outlive the server
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
