"""What the pages of the documentation contain: fenced blocks, commands, links."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "checkpoints" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
CELL = re.compile(r"^\| `(octavius [^`]+)`", flags=re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def lines(page: Path) -> list[str]:
    """Lines of the shell blocks of a page, without comments, and with continued lines joined."""
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in text.splitlines() if line.strip()]


def commands(page: Path) -> list[list[str]]:
    """Arguments of the `octavius` commands in the shell blocks and in the first column of the tables of a page."""
    found = [line for line in lines(page) if line.startswith("octavius ")]
    found += CELL.findall(page.read_text(encoding="utf-8"))
    return [shlex.split(line.split(" | ")[0])[1:] for line in found]


def links(page: Path) -> list[str]:
    """Targets of the links and images of a page, outside of code."""
    text = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", page.read_text(encoding="utf-8")))
    return LINK.findall(text)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
