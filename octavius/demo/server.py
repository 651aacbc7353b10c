"""Runs the page until a signal comes."""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from octavius.demo.callbacks import Callbacks
from octavius.demo.page import CSS
from octavius.serve.app import Application, Receive, Scope, Send

if TYPE_CHECKING:
    import gradio as gr

LARGEST = "256mb"
"""Largest file that can be uploaded."""


def check_installed() -> None:
    """Imports Gradio and plotly to see that they are there, with the uses of a network that they have switched off.

    Raises:
        ValueError: one is not installed.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        import gradio  # noqa: F401
        import plotly.graph_objects  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"octavius demo needs the package {error.name}: pip install 'octavius[demo]', or in a checkout "
            "pip install -e '.[demo]' -c constraints.txt"
        ) from None


@contextmanager
def scratch() -> Iterator[None]:
    """A temporary folder for Gradio's copies of files, deleted at the end."""
    with TemporaryDirectory(prefix="octavius-demo-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield


POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "media-src 'self' data: blob:"
)
"""Content-Security-Policy of the page: browsers load nothing from other hosts, whatever an answer says."""


class Confined:
    """ASGI middleware: sends the policy, and refuses Gradio's route that fetches a file from another host."""

    def __init__(self, app: Application) -> None:
        """Wraps an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] == "http" and "/file=http" in scope["path"]:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return

        async def confine(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await self.app(scope, receive, confine)


@contextmanager
def serving(
    page: "gr.Blocks", callbacks: Callbacks, host: str, port: int, share: bool = False
) -> Iterator[tuple[str, str | None]]:
    """Serves the page until the end of the block.

    Args:
        page: the page.
        callbacks: its callbacks.
        host: address to listen on.
        port: a free port.
        share: whether to make a public address too.

    Yields:
        The page's address, and its public one.
    """
    import gradio as gr
    from starlette.middleware import Middleware

    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size=LARGEST,
        allowed_paths=files_of(callbacks),
        app_kwargs={"middleware": [Middleware(Confined)]},
        show_error=True,
        theme=gr.themes.Base(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")),
        css=CSS,
    )
    try:
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{port}/", page.share_url
    finally:
        page.close(verbose=False)


def files_of(callbacks: Callbacks) -> list[str]:
    """The files of the examples: the only ones of this machine that the page may send."""
    paths = {item.path for example in callbacks.shown for item in example.media.values()}
    return sorted(str(path.resolve()) for path in paths if isinstance(path, Path))
