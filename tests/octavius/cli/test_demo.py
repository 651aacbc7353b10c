"""The command line of the demo: quick help, clear errors, and a page over a real checkpoint that a signal ends."""

import builtins
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from octavius.cli.main import main
from octavius.cli.usage import overview
from octavius.interrupts import STATUS
from tests.tiny import options, refused, settings, write_models


def test_help_needs_no_slow_import() -> None:
    script = "import sys; from octavius.cli.usage import overview; print(overview(['demo', '--help'])); "
    script += "assert not {'torch', 'gradio', 'lightning'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(flag in done.stdout for flag in ("--ckpt", "--against", "--port", "--share", "--trust"))
    assert overview(["demo", "--ckpt", "x"]) is None


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without_gradio(name: str, *args: Any, **options: Any) -> Any:
        if name == "gradio":
            raise ImportError("no gradio", name="gradio")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_gradio)
    assert "pip install 'octavius[demo]'" in refused(["demo", "--port", "0"], capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "port should be a whole number"),
        (["--max-new-tokens", "0"], "max-new-tokens should be"),
        (["--ckpt", "no.ckpt"], "no checkpoint named 'no.ckpt'"),
        (["--sharee"], "there is no option '--sharee' (did you mean '--share'?)"),
    ],
)
def test_wrong_options_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    assert said in refused(["demo", "--port", "0", *words], capsys)


@pytest.mark.slow
def test_a_checkpoint_is_served_until_a_signal_comes(tmp_path: Path, miniature_root: Path) -> None:
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(settings(write_models(tmp_path), miniature_root)))
    folder = tmp_path / "checkpoints"
    main(["fit", "--config", str(file), *options(checkpoint__dirpath=folder, trainer__max_steps=1)])
    command = [sys.executable, "-m", "octavius", "demo", "--ckpt", str(folder / "last.ckpt"), "--port", "0"]
    environment = {**os.environ, "GRADIO_SHARE": "True"}  # ignored: only --share shares
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        with urllib.request.urlopen(f"{address}config") as answer:
            config = answer.read().decode()
        assert "coco_captioning" in config  # an example
        assert '"analytics_enabled":false' in config.replace(" ", "")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == STATUS
    finally:
        process.kill()
        process.stdout.close()
