"""Removes secrets from texts that a server may have echoed: keys, passwords, and their encoded forms."""

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

STRUCK = "[secret]"

SHORTEST = 6
"""Minimum length: shorter values are dummy keys (of endpoints that need none) and would match ordinary words."""
PLACEHOLDERS = frozenset({"ollama", "lm-studio", "not-needed", "no-key", "no-key-required", "placeholder"})

PART = 8
"""Length of the substrings of a long secret that are removed as well."""

NAMES = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")
"""Names of environment variables that hold a secret."""


@dataclass(frozen=True)
class Secrets:
    """Values that are never written or printed.

    Attributes:
        values: the secrets; not shown by `repr`.
    """

    values: frozenset[str] = field(default=frozenset(), repr=False)

    def redact(self, text: str) -> str:
        """Replaces the secrets, in any of their forms, and credentials in addresses."""
        text = re.sub(r"(\w://)[^\s/@]+@", rf"\1{STRUCK}@", text)
        if self._forms is None:
            return text
        text = self._forms.sub(STRUCK, text)
        # Lookahead finds overlapping parts, so that a longer piece of a secret is removed as a whole.
        spans = [
            match.span(1)
            for part in self._parts
            if part in text
            for match in re.finditer(f"(?=({re.escape(part)}))", text)
        ]
        for start, end in reversed(_merged(sorted(spans))):
            text = text[:start] + STRUCK + text[end:]
        return text

    def redact_all(self, value: Any) -> Any:
        """Applies `redact` to all strings in nested lists and mappings."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, Mapping):
            return {self.redact(str(name)): self.redact_all(one) for name, one in value.items()}
        return [self.redact_all(one) for one in value] if isinstance(value, list | tuple) else value

    @cached_property
    def _forms(self) -> re.Pattern[str] | None:
        forms = {form for value in self.values for form in _forms_of(value)}
        # Servers mask keys as `sk-ab****yz`.
        masked = [rf"{re.escape(value[:3])}[\w-]*[*\u2022]{{2,}}[\w*\u2022-]*" for value in self.values]
        patterns = [*masked, *map(re.escape, sorted(forms, key=len, reverse=True))]
        return re.compile("|".join(patterns), re.IGNORECASE) if patterns else None

    @cached_property
    def _parts(self) -> frozenset[str]:
        long = [value for value in self.values if len(value) >= 2 * PART]
        return frozenset(value[at : at + PART] for value in long for at in range(len(value) - PART + 1))


def secrets_of(*values: str | None) -> Secrets:
    """These values, and those of environment variables named like secrets or holding an address with credentials."""
    found = [value for value in values if value]
    for name, value in os.environ.items():
        if NAMES.search(name.upper()):
            found.append(value)
        elif "://" in value and "@" in value:
            found += [part for part in credentials(value) if part]
    kept = {value.strip() for value in found}
    return Secrets(frozenset(one for one in kept if len(one) >= SHORTEST and one.lower() not in PLACEHOLDERS))


def credentials(address: str) -> tuple[str, str]:
    """User name and password in an address, empty if there are none."""
    try:
        parts = urlsplit(address)
        return unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return "", ""


def _forms_of(secret: str) -> Iterator[str]:
    """A secret as it may appear in addresses, HTML, JSON, hexadecimal and base64."""
    yield from (secret, quote(secret, safe=""), quote_plus(secret), html.escape(secret))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    data = secret.encode("utf-8", "surrogatepass")
    yield data.hex()
    # Within other bytes, base64 has three alignments; the first and last digits mix with neighbours.
    for ahead in range(3):
        digits = base64.b64encode(b"\0" * ahead + data).decode().rstrip("=")
        inner = digits[ahead + (ahead > 0) : len(digits) - 1]
        if len(inner) >= PART:
            yield from (inner, inner.replace("+", "-").replace("/", "_"))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
