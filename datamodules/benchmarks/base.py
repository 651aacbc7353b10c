"""Shared by all readers: locating files of an official layout, the policy for bad items, and safe paths."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Literal, Protocol, TypeAlias

from octavius.instruction.sample import Sample

BadPolicy: TypeAlias = Literal["error", "skip"]
"""What to do with a bad item: stop with an error, or leave it out and warn; see `BadItems`."""

DAMAGED = "The file may be truncated or damaged: compare it with the original and copy it again."
"""Advice at the end of messages about files that cannot be parsed."""

LONGEST_NAME = 255
"""Bytes of a file name that common file systems allow."""

LONGEST_PATH = 4095
"""Bytes of a path that Linux allows."""

LONGEST_PLACE = 300
"""Characters shown of a bad item's location, which in a damaged file can be of any length."""

KEPT = 10_000
"""Maximum number of reasons that are stored per file; further ones are only counted."""


class Reader(Protocol):
    """Function that parses annotation files into samples; media are referenced, not opened."""

    def __call__(self, root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
        """Reads one split of the data set under `root`."""
        ...


class DatasetNotFoundError(FileNotFoundError):
    """A file or folder of the official layout does not exist."""


class BadItemError(ValueError):
    """One item of an annotation file is bad; `BadItems.guard` adds its location, and stops or continues."""


class BlemishError(BadItemError):
    """An item has a flaw that official files are known to have (docs/data.md lists them); it is always left out."""


@dataclass(frozen=True)
class Reason:
    """Why an item was left out.

    Attributes:
        source: the annotation file, or a folder of annotation files.
        where: the item's location in it.
        what: what is wrong.
        known: whether official files are known to have such items.
    """

    source: str
    where: str
    what: str
    known: bool = False

    def __str__(self) -> str:
        """The reason on one line."""
        return f"{self.source}, {self.where}: {self.what}"


class LeftOutWarning(UserWarning):
    """Issued by `BadItems.report` if items were left out.

    Attributes:
        reasons: why, at most `KEPT`; the message shows the first one only.
    """

    def __init__(self, text: str, reasons: tuple[Reason, ...]) -> None:
        """Stores the message and at most `KEPT` reasons."""
        super().__init__(text)
        self.reasons = reasons


def need(root: Path, layout: str, *alternatives: str) -> Path:
    """The first of the alternatives that exists below the root; a name that ends in `/` is a folder.

    Args:
        root: folder of the data set.
        layout: the official directory tree, shown in the error.
        alternatives: paths relative to the root.

    Raises:
        DatasetNotFoundError: none of them exists.
    """
    for relative in alternatives:
        path = root / relative
        if path.is_dir() if relative.endswith("/") else path.is_file():
            return path
    if root.is_dir():
        found = f"{' and '.join(alternatives)} not found in the data folder {root}"
    else:
        found = f"the data folder {root} does not exist (needed from it: {' or '.join(alternatives)})"
    raise DatasetNotFoundError(
        f"{found}.\nExpected layout:\n{layout}"
        f"Put the data set there, or set its root to the folder that holds this layout."
    )


class BadItems:
    """Applies the policy for bad items: stop at the first (`error`), or leave them out and warn (`skip`).

    Items with blemishes that official files are known to have are left out and reported under both policies.
    """

    def __init__(self, policy: BadPolicy, source: Path) -> None:
        """Handles the items of one annotation file or folder."""
        self.policy = policy
        self.source = source
        self.counts = {False: 0, True: 0}  # by `Reason.known`
        self.reasons: list[Reason] = []

    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Context manager in which one item is read; `where` is its location for messages.

        Raises:
            ValueError: the item is bad (`BadItemError`), and the policy is `error`.
        """
        try:
            yield
        except BadItemError as error:
            where = where if len(where) <= LONGEST_PLACE else f"{where[:LONGEST_PLACE]}..."
            reason = Reason(str(self.source), where, str(error), isinstance(error, BlemishError))
            if self.policy != "skip" and not reason.known:
                raise ValueError(f"{reason}. Correct it, or leave such items out with bad=skip.") from None
            self.counts[reason.known] += 1
            if self.counts[reason.known] <= KEPT:
                self.reasons.append(reason)

    def report(self) -> None:
        """Issues at most two warnings, one for bad items and one for known blemishes."""
        for known, count in self.counts.items():
            if not count:
                continue
            reasons = tuple(reason for reason in self.reasons if reason.known is known)
            kind = "item with a blemish that official files have" if known else "bad item"
            items = f"1 {kind}" if count == 1 else f"{count} {kind.replace('item', 'items', 1)}"
            text = f"{items} left out of {self.source}; the first: {reasons[0]}"
            # Several processes have imported Lightning, whose import takes seconds, and only the first of them warns.
            lightning = sys.modules.get("lightning.pytorch.utilities")
            warn = warnings.warn if lightning is None else lightning.rank_zero_warn
            warn(LeftOutWarning(text, reasons), stacklevel=1 if lightning is None else 4)


class DataFolder:
    """Resolves file names from annotation files below one folder, and refuses those that lead out of it.

    A symbolic link is allowed if its target is inside. Links are found by listing each folder once: one
    `stat` per file is slow on network storage. Whether a file exists is left to the loader.
    """

    def __init__(self, path: Path) -> None:
        """Trusts the folder itself, which may be a link to anywhere."""
        self.path = path
        self._real = path.resolve()
        self._links: dict[Path, frozenset[str]] = {}

    def file(self, name: str) -> Path:
        """The path of a file whose name is relative to the folder.

        Raises:
            BadItemError: the name is empty, absolute or too long, or leads out of the folder.
        """
        windows = PureWindowsPath(name)  # splits at / and \, and knows drives
        if windows.drive or windows.root or ".." in windows.parts or "\0" in name:
            raise self._outside(name)
        path = self.path.joinpath(*windows.parts)
        if path == self.path or not name.strip():
            raise BadItemError("the name of the file is empty")
        try:
            longest = max(len(os.fsencode(part)) for part in windows.parts)
        except UnicodeEncodeError:
            raise BadItemError(
                f"the name {name!r:.60} has half of a surrogate pair, which no file name can have"
            ) from None
        if longest > LONGEST_NAME or len(os.fsencode(path)) > LONGEST_PATH:
            raise BadItemError(
                f"the name {name!r:.60}... is longer than operating systems allow: {LONGEST_NAME} bytes for a name, "
                f"{LONGEST_PATH} for a path"
            )
        if path.name in self._links_beside(path) and not self._holds(path):
            raise self._outside(name)
        return path

    def _links_beside(self, path: Path) -> frozenset[str]:
        folder = path.parent
        if folder not in self._links:
            if not self._holds(folder):
                raise self._outside(str(path.relative_to(self.path)))
            try:
                with os.scandir(folder) as entries:
                    self._links[folder] = frozenset(entry.name for entry in entries if entry.is_symlink())
            except OSError:
                reason = f"the folder {folder}, which should hold '{path.name}', cannot be read"
                raise BadItemError(reason) from None
        return self._links[folder]

    def _holds(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self._real)
        except (OSError, RuntimeError):  # circular links
            return False

    def _outside(self, name: str) -> BadItemError:
        return BadItemError(
            f"the path {name!r:.200} leads out of the data folder {self.path}; "
            f"expected a relative path that stays inside"
        )
