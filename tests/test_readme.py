"""Commands, configurations and links in the README and in `docs/` are valid."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from octavius.cli.main import main
from tests.pages import PAGES, README, ROOT, anchors, blocks, commands, lines, links

COMMANDS = sorted({tuple(words) for page in PAGES for words in commands(page)})
TARGETS = sorted({line.split()[-1] for line in lines(README) if line.startswith("make ")} | {"install"})
PRESETS = {
    tuple(shlex.split(path.read_text().splitlines()[0].replace("PATH_TO_COCO", "data/coco"))[2:])
    for path in (ROOT / "configs").rglob("*.yaml")
    if path.read_text().startswith("# octavius ")
}
"""Commands of the presets themselves, which test_configs.py tests."""


def without_checkpoint(words: tuple[str, ...]) -> tuple[str, ...]:
    """A command without `--ckpt`, which needs a run before it, and `--print_config`."""
    index = words.index("--ckpt") if "--ckpt" in words else len(words)
    return tuple(word for word in words[:index] + words[index + 2 :] if word != "--print_config")


FITS = {without_checkpoint(words) for words in COMMANDS if words[0] == "fit"} - PRESETS - {("fit",)}
OPTIONS = ["predict", "serve", "export", "import", "score", "compare", "check-data", "build-instructions"]
"""Commands whose help lists all of their own options."""


def test_there_are_commands_to_check() -> None:
    """An edit that hides the commands from these tests must not make them pass."""
    assert {"fit", "test", "predict", "miniature", *OPTIONS} <= {words[0] for words in COMMANDS}
    assert "fit" in TARGETS


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Linked files exist, and so do the headings that are named behind a #."""
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_code_exist(page: Path) -> None:
    """Files and folders of the project that a page names exist."""
    named = re.findall(
        r"`((?:octavius|datamodules|tests|bench|configs)/[\w/.]*)`", page.read_text(encoding="utf-8")
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_architecture_lists_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    parts = {path.name + "/" * path.is_dir() for path in (ROOT / "octavius").iterdir()}
    parts -= {"__init__.py", "__main__.py", "__pycache__/"}
    assert [part for part in sorted(parts) if f"`{part}`" not in text] == []


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    assert {page.name for page in PAGES if page.parent == index.parent} - {"README.md"} <= set(links(index))


@pytest.mark.parametrize("words", sorted(FITS), ids=" ".join)
def test_training_commands_parse(
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All options and presets of a training command exist, some of them printed in a page under their name."""
    for text in (text for page in PAGES for text in blocks(page, "yaml") if text.startswith("# ")):
        (tmp_path / re.split(r"[ ;\n]", text)[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([*words, "--print_config"])
    assert end.value.code in (0, None), capsys.readouterr().err


@pytest.mark.parametrize("command", OPTIONS)
def test_options_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of a command in the pages is in the command's help; those with a dot are options of `fit`."""
    main([command, "--help"])
    text = capsys.readouterr().out
    # `check-data --config` has options of its own, which test_check_samples.py tests.
    asked = [words for words in COMMANDS if words[0] == command and words[:2] != ("check-data", "--config")]
    own = {word[2:] for words in asked for word in words if word.startswith("--") and "." not in word}
    assert [name for name in own if name not in text and name.replace("-", "_") not in text] == []


def test_make_targets_exist() -> None:
    """All targets of make in the README can be planned."""
    done = subprocess.run(["make", "-n", *TARGETS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
