"""Texts of data, models and servers, made fit to be shown: in a terminal, a table, a figure, a file name.

Such texts may hold escape sequences of terminals, marks that turn the direction of writing, halves of surrogate
pairs, markup, formulas of spreadsheets, or a hundred thousand letters. Whatever is shown of them goes through one of
these functions; JSON lines, which are read again, keep them as they are.
"""

import hashlib
import html
import json
import re
import unicodedata
from typing import Any
from urllib.parse import quote

LONGEST = 600
"""Characters that are shown of a text."""


def visible(text: str, longest: int = LONGEST, breaks: bool = False) -> str:
    r"""A text on one line in which every character can be seen, cut where it is long.

    Args:
        text: any text.
        longest: characters that are left of it.
        breaks: keeps line breaks and tabs.

    >>> visible("a\x1b[31m red\n\u202ething")
    'a\\x1b[31m red \\u202ething'
    """
    cut = text if len(text) <= longest else f"{text[:longest]}…"
    kept = cut if breaks else " ".join(cut.split())
    return "".join(_seen(letter) for letter in kept)


def _seen(letter: str) -> str:
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return ascii(letter)[1:-1] if hidden and letter not in "\n\t\u200d" else letter


def markdown_cell(text: str, longest: int = LONGEST) -> str:
    r"""Any text as one cell of a Markdown table that shows just these characters, also where HTML is let through.

    >>> print(markdown_cell("Which is *red* |\n the ball or <b>?"))
    Which is \*red\* \| the ball or &lt;b&gt;?
    """
    return re.sub(r"([\\`*_{}\[\]()!|#~$])", r"\\\1", html.escape(visible(text, longest), quote=False))


def table_cell(text: str) -> str:
    """As `markdown_cell`, for names: `_` and `*` stay, so that the table reads well as plain text too."""
    return html.escape(visible(text), quote=False).replace("|", "\\|")


def csv_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula; numbers stay as they are.

    >>> csv_cell("=HYPERLINK(1)"), csv_cell(-0.5)
    ("'=HYPERLINK(1)", -0.5)
    """
    if not isinstance(value, str):
        return value
    text = visible(value, len(value), breaks=True)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) and len(text) > 1 else text


def file_name(name: str) -> str:
    """A name as that of a file; different names have different ones.

    >>> file_name("held_out/vqa"), file_name("../=[x]")
    ('held_out.vqa', '%2E%2E.%3D%5Bx%5D')
    """
    safe = quote(name, safe=" ,+/", errors="surrogatepass").replace(".", "%2E").replace("/", ".")
    if len(safe) > 150:
        safe = f"{safe[:130]}{hashlib.sha256(safe.encode()).hexdigest()[:16]}"
    return safe or "%"


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON, in plain letters unless it holds half of a surrogate pair, which UTF-8 cannot hold."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
