"""The README's example of LoRA-MoE in one's own code runs as it stands there."""

import textwrap
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


def example() -> str:
    """The block of Python in the README."""
    text = README.read_text(encoding="utf-8")
    start = text.index("    import torch\n")
    lines = text[start:].splitlines()
    end = next(place for place, line in enumerate(lines) if line and not line.startswith("    "))
    return textwrap.dedent("\n".join(lines[:end]))


def test_the_example_trains_saves_loads_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = example()
    assert "get_routed_model" in code
    exec(compile(code, "README.md", "exec"), {})
    assert {path.name for path in Path("routed").iterdir()} == {"routed_config.json", "model.safetensors"}
    assert (
        capsys.readouterr().out.replace("\n       ", "")
        == "tensor([[ 5,  6,  7,  8,  9], [15, 16, 17, 18, 19]])\n"
    )
