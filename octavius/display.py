"""Colours, and what makes untrusted text safe to display: in a terminal, a table, a figure or as a file name.

Text from data, models and servers may hold terminal escape sequences, bidirectional control characters, lone
surrogates, markup, spreadsheet formulas, or a hundred thousand characters. Everything that is displayed goes
through one of these functions. JSON lines, which are read again, keep the original text.
"""

import hashlib
import html
import json
import re
import unicodedata
from typing import Any
from urllib.parse import quote

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#666666")
"""Colours of figures and boxes: the colour-blind safe palette of Okabe and Ito, with grey instead of black."""

LONGEST = 600
"""Maximum number of characters of a text that are displayed."""


def visible(text: str, longest: int = LONGEST, breaks: bool = False) -> str:
    r"""Text on one line, truncated, with control and invisible characters escaped.

    Args:
        text: any text.
        longest: maximum number of characters.
        breaks: keep line breaks and tabs.

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
    r"""Text as a cell of a Markdown table that renders literally, also if the renderer lets HTML through.

    >>> print(markdown_cell("Which is *red* |\n the ball or <b>?"))
    Which is \*red\* \| the ball or &lt;b&gt;?
    """
    return re.sub(r"([\\`*_{}\[\]()!|#~$])", r"\\\1", html.escape(visible(text, longest), quote=False))


def table_cell(text: str) -> str:
    """Like `markdown_cell`, for names: `_` and `*` are not escaped, so that the raw table is readable too."""
    return html.escape(visible(text), quote=False).replace("|", "\\|")


def csv_cell(value: Any) -> Any:
    """A value that no spreadsheet interprets as a formula; numbers are unchanged.

    >>> csv_cell("=HYPERLINK(1)"), csv_cell(-0.5)
    ("'=HYPERLINK(1)", -0.5)
    """
    if not isinstance(value, str):
        return value
    text = visible(value, len(value), breaks=True)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) and len(text) > 1 else text


def file_name(name: str) -> str:
    """A file name for any name; different names give different file names.

    >>> file_name("held_out/vqa"), file_name("../=[x]")
    ('held_out.vqa', '%2E%2E.%3D%5Bx%5D')
    """
    safe = quote(name, safe=" ,+/", errors="surrogatepass").replace(".", "%2E").replace("/", ".")
    if len(safe) > 150:
        safe = f"{safe[:130]}{hashlib.sha256(safe.encode()).hexdigest()[:16]}"
    return safe or "%"


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON without ASCII escapes, unless it has a lone surrogate, which UTF-8 cannot encode."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
