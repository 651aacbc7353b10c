"""Runs the page until a signal comes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from octavius.demo.callbacks import Callbacks
from octavius.demo.page import CSS

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
