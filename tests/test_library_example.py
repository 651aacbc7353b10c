"""The README's example of LoRA-MoE as a library runs as it is printed."""

from pathlib import Path

import pytest

from tests.pages import README, blocks


def test_the_example_trains_saves_loads_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (text for text in blocks(README, "python") if "get_routed_model" in text)
    exec(compile(code, "README.md", "exec"), {})
    assert {path.name for path in Path("routed").iterdir()} == {"routed_config.json", "model.safetensors"}
    assert (
        capsys.readouterr().out.replace("\n       ", "")
        == "tensor([[ 5,  6,  7,  8,  9], [15, 16, 17, 18, 19]])\n"
    )
