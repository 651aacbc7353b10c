"""The suggestion in an error about an unknown name: "did you mean ...?"."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A suggestion of the most similar known name, or an empty text.

    Args:
        name: the unknown name.
        known: the known ones.
        cutoff: least similarity, from 0 to 1.

    >>> nearest("detecton", ["captioning", "detection"])
    " (did you mean 'detection'?)"
    """
    found = closest(name, known, cutoff)
    return "" if found is None else f" (did you mean '{found}'?)"


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The most similar known name, regardless of upper and lower case; None if none is similar."""
    spellings = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), spellings, 1, cutoff)
    return spellings[near[0]] if near else None
