"""The command `octavius serve`: its settings, and a process of it that ends within 30 seconds after a signal."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from octavius.cli.main import main
from octavius.cli.serve import TOKEN, listening, serve, server_library
from tests.octavius.serve.conftest import asking
from tests.tiny import ROOT, settings, write_models

IN_TIME = 30.0
"""Seconds within which the command ends."""


@pytest.fixture(scope="module")
def checkpoint(miniature_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint of a tiny model."""
    folder = tmp_path_factory.mktemp("signals")
    small = settings(write_models(folder / "models"), miniature_root)
    small["data"]["init_args"]["validate"] = []
    with contextlib.chdir(folder):
        Path("small.yaml").write_text(yaml.safe_dump(small))
        main(["fit", "--config", "small.yaml"])
    return folder


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server on a free port, and its address."""
    environment = {**os.environ, TOKEN: "secret", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "octavius", "serve", "--ckpt", "last.ckpt", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next((found[0] for line in lines if (found := re.search(r"http://\S+", line))), "")
        assert address, "it has not begun"
        yield process, address
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_in_time(checkpoint: Path, number: signal.Signals) -> None:
    """In the middle of a stream, whose answer is either whole or ends with an error."""
    with serving(checkpoint) as (process, address):
        client = openai.OpenAI(base_url=address, api_key="secret", max_retries=0, timeout=60)
        request = {"model": "octavius", "messages": [asking("What is red?")], "max_tokens": 1000}
        stream = client.chat.completions.create(**request, stream=True)  # type: ignore[call-overload]
        next(iter(stream))
        begin = time.monotonic()
        process.send_signal(number)
        with contextlib.suppress(openai.APIError):
            for _ in stream:
                pass
        assert process.wait(IN_TIME) == 130
        assert time.monotonic() - begin < IN_TIME
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


def test_without_the_extra_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ValueError, match=r"fastapi: pip install 'octavius\[serve\]'"):
        server_library()


def test_an_address_that_is_taken_is_told_before_the_model_is_loaded() -> None:
    with listening("127.0.0.1", 0) as other, pytest.raises(ValueError, match="cannot listen on 127"):
        listening("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token": " a"}, "the token should be"),
        ({"token": ""}, "the token should be"),
        ({"port": 70000}, "port should be"),
        ({"batch_size": 0}, "batch_size should be"),
        ({"timeout": 0.0}, "timeout should be"),
        ({"body_limit": 0}, "body_limit should be"),
        ({"max_new_tokens": 0}, "max_new_tokens should be"),
        ({"queue": 0}, "queue should be"),
        ({"ckpt": "no-such.ckpt"}, "no-such.ckpt"),
    ],
)
def test_settings_of_the_command_are_checked(
    options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(ValueError, match=words):
        serve(**options)
    assert TOKEN not in os.environ
