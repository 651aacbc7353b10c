"""The command `octavius serve`: loads a checkpoint and answers over HTTP until it is stopped."""

import logging
import os
import signal
import socket
from typing import Any, ClassVar, Literal

import torch

from octavius.checkpoint.load import load
from octavius.limits import SIZE_RANGE, Range
from octavius.llama_cpp.gate import read_gate
from octavius.presets import find_checkpoint
from octavius.serve.app import Limits, build_app
from octavius.serve.backend import Backend
from octavius.serve.engine import Engine
from octavius.serve.llama_server import LlamaServer

TOKEN = "OCTAVIUS_TOKEN"
"""Environment variable with the token, which other users of the machine cannot see, unlike an argument."""

LLAMA_SERVER = "http://127.0.0.1:8080"
"""Address that llama-server listens on by default."""

GRACE, LAST = 10.0, 5.0
"""Seconds that running answers get after a stop signal, and then the connections to send what they have."""

PORT = Range(0, 65535, integer=True)


def serve(
    ckpt: str = "last.ckpt",
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    backend: Literal["octavius", "llama-server"] = "octavius",
    url: str | None = None,
    batch_size: int = 8,
    max_new_tokens: int = 1024,
    queue: int = 64,
    timeout: float = 120.0,
    body_limit: int = 32 << 20,
    trust: bool = False,
) -> None:
    """Answers questions about pictures and point clouds over HTTP, in OpenAI's chat format.

    Args:
        ckpt: a checkpoint of `octavius fit` with its configuration next to it, or a folder of `octavius
            export`.
        host: address to listen on; 0.0.0.0 is every interface of this machine.
        port: port to listen on; 0 takes a free one.
        token: what clients have to send as `Authorization: Bearer TOKEN`; by default that of the environment
            variable OCTAVIUS_TOKEN, or none.
        backend: program that runs the language model: this one, or a llama-server that has loaded the files of
            `ckpt`, a folder of `octavius export --format gguf`; it answers text alone.
        url: address of llama-server; by default http://127.0.0.1:8080.
        batch_size: maximum number of questions that are answered at once.
        max_new_tokens: largest `max_tokens` of a request.
        queue: requests that may wait; further ones get status 429.
        timeout: seconds that a request may take.
        body_limit: bytes that a request may have.
        trust: let the configuration that came with the checkpoint name any class, which runs its code.

    Raises:
        ValueError: a setting is out of range, the address is not free, FastAPI or uvicorn is missing, or llama-server
            does not answer or has loaded other files.
    """
    PORT.check(port=port)
    SIZE_RANGE.check(batch_size=batch_size)
    limits = Limits(body_limit, max_new_tokens, timeout, queue)
    token = os.environ.get(TOKEN) if token is None else token
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
        raise ValueError("the token should be printable ASCII characters without spaces around them")
    if url is not None and backend != "llama-server":
        raise ValueError("--url is the address of llama-server; add --backend llama-server, or leave it out")
    uvicorn = server_library()
    path = find_checkpoint(ckpt)
    with listening(host, port) as listener:
        engine: Backend
        if backend == "llama-server":
            engine = LlamaServer(read_gate(path), url or LLAMA_SERVER, batch_size)
        else:
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            engine = Engine(load(path, trust).to(device or "cpu"), batch_size)
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        takes = ", ".join(("text", *engine.modalities))
        print(f"octavius serves {ckpt} ({takes}) at http://{shown}:{address[1]}/v1", flush=True)
        if token is None and not shown.startswith(("127.", "[::1]")):
            print("no token is set: everyone who reaches this address can ask", flush=True)
        run(uvicorn, engine, build_app(engine, limits, token), listener)


def server_library() -> Any:
    """Imports uvicorn, and the other packages to see that they are there.

    Raises:
        ValueError: one is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import httpx2  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ValueError(
            f"octavius serve needs the package {error.name}: pip install 'octavius[serve]', or in a checkout "
            "pip install -e '.[serve]' -c constraints.txt"
        ) from None
    return uvicorn


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        ValueError: there is no such address here, or the port is taken.
    """
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ValueError(
            f"cannot listen on {host}:{port}: {error.strerror}; name another --host or --port"
        ) from None
    return listener


def run(uvicorn: Any, engine: Backend, app: Any, listener: socket.socket) -> None:
    """Serves until a signal comes; running answers then get `GRACE` seconds, waiting ones are told at once."""
    config = uvicorn.Config(
        app,
        log_level=logging.WARNING,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=round(GRACE + LAST),
    )

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Closes the engine as soon as a signal comes."""

        received: ClassVar[list[int]] = []

        def handle_exit(self, sig: int, frame: Any) -> None:
            self.received.append(sig)
            engine.close(GRACE)
            super().handle_exit(sig, frame)

    server = Server(config)
    # uvicorn handles SIGINT and SIGTERM alone, and raises them again at its end; SIGHUP is to do the same.
    hang_up = getattr(signal, "SIGHUP", None)
    before = None if hang_up is None else signal.getsignal(hang_up)
    if hang_up is not None and before is not signal.SIG_IGN:
        signal.signal(hang_up, server.handle_exit)
    try:
        server.run(sockets=[listener])
    finally:
        if hang_up is not None:
            signal.signal(hang_up, before)
        engine.close()
        engine.join(LAST)
    if hang_up in server.received:
        signal.raise_signal(hang_up)
