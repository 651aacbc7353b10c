r"""Parses which of several options a free text states, by letter or by content.

`docs/evaluation.md` lists the forms. They are tried from the most explicit (`\boxed{}`, a tag, `the answer is
B`) to the least (one option is mentioned), and the first that matches decides: `The symbol of boron is B. The
answer is C.` gives C. If that form names several options, or a letter without an option, the result is None:
the parser never guesses.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase as LETTERS

from octavius.tasks import choice_forms as forms

Found = frozenset[int]
"""Indices of the options that a part of a text states: none, one, or several contradicting ones.

-1 stands for a letter that belongs to no option.
"""

NOTHING: Found = frozenset()
BEYOND: Found = frozenset([-1])
"""A stated letter that belongs to no option: less explicit forms are not tried, and the result is None."""

MOST_KEYS = 50
"""Largest number of JSON keys in a text; one with more is read as stating nothing, to bound the time."""
MOST_FILLERS = 12
"""Maximum number of words and punctuation marks between a declaration and its option."""


@dataclass(frozen=True)
class Options:
    """The options that a text may state.

    Attributes:
        pattern: matches contents of options in a cleaned text, longer ones first; None if there are none.
        spelled: options by case-folded content.
        letters: options by capital letter.
        lettered: whether options have letters; a letter that belongs to no option is then read as `BEYOND`.
    """

    pattern: re.Pattern[str] | None
    spelled: dict[str, Found]
    letters: dict[str, Found]
    lettered: bool


@dataclass(frozen=True)
class Token:
    """An occurrence of an option in a text: which option, where it ends, and whether it is a letter."""

    found: Found
    end: int
    letter: bool


def parse_choice(
    text: str, contents: Sequence[str], meanings: Sequence[int] | None = None, lettered: bool = True
) -> int | None:
    """The index of the only option that a text states, or None.

    Args:
        text: a free-text answer.
        contents: texts of the options.
        meanings: option index of each content, if several contents stand for one; by default its own index.
        lettered: whether the options are also called A, B, C, ...

    >>> parse_choice("Red is warm. The answer is (B).", ["red", "blue"])
    1
    """
    indices = tuple(range(len(contents)) if meanings is None else meanings)
    found = _read(_without_reasoning(text), _options(tuple(contents), indices, lettered))
    return next(iter(found)) if len(found) == 1 and found != BEYOND else None


@lru_cache(maxsize=256)
def _options(contents: tuple[str, ...], meanings: tuple[int, ...], lettered: bool) -> Options:
    spelled: dict[str, Found] = {}
    letters = {
        letter: frozenset([index]) for index, letter in enumerate(LETTERS[: len(contents)]) if lettered
    }
    for content, meaning in zip(contents, meanings, strict=True):
        words = " ".join(forms.cleaned(content).split()).casefold()
        if len(words) == 1 and words.upper() in LETTERS:  # ambiguous with a letter: counts if both agree
            letters[words.upper()] = letters.get(words.upper(), NOTHING) | {meaning}
        elif words and words not in forms.GRAMMAR:
            spelled[words] = spelled.get(words, NOTHING) | {meaning}
    word, patterns = forms.WORD, []
    for words in sorted(spelled, key=len, reverse=True):
        before = f"(?<!{word})(?<!{word}-)" if re.match(word, words) else ""
        after = f"(?!{word})(?!-{word})" if re.match(word, words[-1]) else ""
        patterns.append(before + r"\s+".join(map(re.escape, words.split())) + after)
    pattern = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None
    return Options(pattern, spelled, letters, lettered)


def _without_reasoning(text: str) -> str:
    """A text without <think> .. </think>; if only the closing tag is there, everything before it is dropped."""
    kept, depth, start = "", 0, 0
    for tag in forms.REASONING.finditer(text):
        closes = tag[0].startswith("</")
        kept = "" if closes and not depth else kept if depth else kept + text[start : tag.start()]
        depth = max(0, depth + (-1 if closes else 1))
        start = tag.end()
    return kept if depth else kept + text[start:]


def _read(text: str, options: Options) -> Found:
    """What a text states, by the first form that matches."""
    scoped = _scoped(text, options)
    if scoped is not None:
        return scoped
    said, meanings = _masked(forms.cleaned(text), options)
    reader = Reader(forms.DENIED.sub(_without_denied, said), meanings, options)
    tried: tuple[Callable[[], Found], ...] = (
        reader.declared,
        lambda: reader.leading() | reader.last_sentence(),
        reader.mentioned,
        reader.contents,
    )
    return next((found for form in tried if (found := form())), NOTHING)


def _without_denied(found: re.Match[str]) -> str:
    """What replaces a denied option: `The answer isn't A but B` becomes `The answer is * B`."""
    return " is * " if found["but"] and found["verb"] else " * "


def _scoped(text: str, options: Options) -> Found | None:
    r"""The options in JSON values, the last <answer> or the last \boxed{}; None if there are none of these."""
    if keys := list(forms.JSON_KEY.finditer(text)):
        if len(keys) > MOST_KEYS:
            return NOTHING
        return NOTHING.union(*(_json_value(text, key.end(), options) for key in keys))
    box, tag = (max((m.end() for m in form.finditer(text)), default=-1) for form in (forms.BOX, forms.TAG))
    if tag > box:  # the tag comes last: only its content counts
        closing = forms.TAG_END.search(text, tag)
        return _read(text[tag : closing.start() if closing else None], options)
    if box < 0:
        return None
    depth, end = 1, box
    while end < len(text) and depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    # If the box holds no option, it may be an intermediate result: continue with the text after it.
    return _read(text[box : end - 1 if depth == 0 else end], options) or _read(text[end:], options)


def _json_value(text: str, start: int, options: Options) -> Found:
    """The options in the JSON value at this position; accepts the single quotes of Python literals too."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        quoted = re.compile(r"""['"]([^'"\n]*)""").match(text, start)
        value = quoted[1] if quoted else None
    if isinstance(value, dict):  # keys inside it are matched separately by the caller
        return NOTHING
    values = value if isinstance(value, list) else [value]
    return NOTHING.union(*(_read(one, options) if isinstance(one, str) else BEYOND for one in values))


def _masked(text: str, options: Options) -> tuple[str, dict[str, Found]]:
    """Replaces each content of an option by one private-use character; returns the text and their meanings."""
    meanings: dict[str, Found] = {}

    def mask(found: re.Match[str]) -> str:
        words = " ".join(found[0].split()).casefold()
        mark = chr(forms.CONTENT + list(options.spelled).index(words))
        meanings[mark] = options.spelled[words]
        return mark

    return (options.pattern.sub(mask, text) if options.pattern else text), meanings


@dataclass(frozen=True)
class Reader:
    """Matches the forms against a cleaned text with masked contents, from which denied options are removed."""

    said: str
    meanings: dict[str, Found]
    options: Options

    def declared(self) -> Found:
        """`The answer is B`, `B is correct`; a final answer or a correction takes precedence over the others."""
        plain, final, end = NOTHING, NOTHING, 0
        for match in forms.DECLARED_BEFORE.finditer(self.said):
            start = match.start()
            if start < end:  # inside the previous match
                continue
            found, end = self._joined(match.end())
            elsewhere = "would be" in match[0].lower() and forms.CONDITION.match(self.said, end)
            if found and not elsewhere and not self._is_hypothetical(start):
                is_final = (
                    match["final"]
                    or match["revised"]
                    or forms.FINAL.search(self.said[max(0, start - 60) : start])
                )
                plain, final = (plain, final | found) if is_final else (plain | found, final)
        for match in forms.DECLARED_AFTER.finditer(self.said):
            token = self._token(match.start("token"), any_end=True)
            if token and not token.found <= plain and not self._is_hypothetical(match.start("token")):
                plain |= token.found
        return final or plain

    def leading(self) -> Found:
        """An option at the start of the answer, as in `B. blue`, unless it starts a list of all options."""
        start = self._led(0)
        token = self._token(start)
        if token is None or not forms.LED.match(self.said, token.end):
            return NOTHING
        listed = [one[1] or one[2] for one in forms.LISTED.finditer(self.said)]
        reason = re.compile(r"\)?\s*(?i:because|since|as)\b").match(self.said, token.end)
        if token.letter and len(set(listed)) > 1 and reason is None:
            return NOTHING.union(*map(self._letter, listed))
        return self._joined(start)[0]

    def last_sentence(self) -> Found:
        """A last sentence, or last line, that consists of an option only."""
        said = self.said.rstrip(" .!)*\n\t")
        ends = [match.end() for match in forms.SENTENCES.finditer(said)]
        token = self._token(self._led(ends[-1] if ends else 0))
        return token.found if token and token.end >= len(said) else NOTHING

    def _led(self, start: int) -> int:
        """The position after anything that may precede an option at the start of a line."""
        match = forms.LEADING.match(self.said, start)
        position = match.end() if match else start
        return (
            position + 1
            if self._token(position) is None and self.said.startswith("(", position)
            else position
        )

    def mentioned(self) -> Found:
        """Letters in brackets, `option B`, `it is B`, `so B`; none if the text is undecided."""
        if forms.UNDECIDED.search(self.said):
            return NOTHING
        found, end = NOTHING, 0
        for match in forms.BRACKETED.finditer(self.said):
            if match.start() < end:
                continue
            more, after = self._joined(match.start())
            # Only an option that is new needs the search in the clause before it, which takes most of the time.
            if more <= found or not self._is_hypothetical(match.start()):
                found, end = found | more, after
        end = 0
        for match in forms.MENTIONED.finditer(self.said):
            if match.start() < end:
                continue
            position = self._after_filler(match.end())
            token = self._token(position)
            asked = token is not None and self.said.startswith("?", token.end)
            if token and token.letter and not asked:
                more, after = self._joined(position)
                if more <= found or not self._is_hypothetical(match.start()):
                    found, end = found | more, after
        return found

    def contents(self) -> Found:
        """All options whose content occurs in the text."""
        if forms.UNDECIDED.search(self.said):
            return NOTHING
        return NOTHING.union(*(self.meanings[mark] for mark in self.said if mark in self.meanings))

    def _is_hypothetical(self, start: int) -> bool:
        """Whether the clause before a position negates or questions what follows."""
        return bool(
            forms.HYPOTHETICAL.search(forms.CLAUSES.split(self.said[max(0, start - 200) : start])[-1])
        )

    def _joined(self, start: int) -> tuple[Found, int]:
        """The option at a position, after filler words, with all others joined to it by `or`, `and` or `,`.

        Returns:
            The options, and the end position of the last one.
        """
        end = self._after_filler(start)
        token, found = self._token(end), NOTHING
        while token is not None:
            token = self._with_words(token)
            found, end = found | token.found, token.end
            joint = forms.ALTERNATIVE.match(self.said, end)
            token = self._token(joint.end()) if joint else None
            # `B or C the red one`
            if joint and token is None and (other := forms.OR_LETTER.match(self.said, end)):
                token = Token(self._letter(other[1]), other.end(), True)
        return found, end

    def _with_words(self, token: Token) -> Token:
        """Merges a letter with the content next to it; if they contradict each other, the letter counts."""
        gap = re.compile(r"[ \t]*[.,:)-]?\s*(?:(?i:the|an?)\s+)?").match(self.said, token.end)
        start = gap.end() if gap else token.end
        after = self._token(start) or (self._token(start + 1) if self.said.startswith("(", start) else None)
        if after is None or after.letter == token.letter:
            return token
        if token.letter:
            return Token(token.found, after.end, True)
        return after if self.said[after.end - 1] == ")" else token

    def _after_filler(self, start: int) -> int:
        """The position after filler such as `most likely option`."""
        for _ in range(MOST_FILLERS):
            filler = None if self._token(start) else forms.FILLER.match(self.said, start)
            if filler is None:
                break
            start = filler.end()
        return start

    def _token(self, start: int, any_end: bool = False) -> Token | None:
        """The option at a position; the articles `a` and `A` do not count."""
        if self.said[start : start + 1] in self.meanings:
            return Token(self.meanings[self.said[start]], start + 1, False)
        match = forms.BRACKETED.match(self.said, start) or forms.BARE.match(self.said, start)
        if match is None and any_end:
            match = re.compile(r"\(?([A-Za-z])\)?").match(self.said, start)
        if match is None or not (found := self._letter(match[1])):
            return None
        if match[0] in ("A", "a", "I", "i") and not any_end:
            after = self.said[match.end() :].lstrip(" \t")[:1]
            if after in self.meanings and self.meanings[after] != found:  # `a red one` is the article
                return None
            # `... is a` at the end of a truncated text
            if match[0] == "a" and after == "" and self.said[:start].rstrip().endswith((" is", " was")):
                return None
        return Token(found, match.end(), True)

    def _letter(self, letter: str) -> Found:
        return self.options.letters.get(letter.upper(), BEYOND if self.options.lettered else NOTHING)
