"""Strict reading of YAML, for configuration files and for values on the command line.

PyYAML accepts more than a configuration needs: the last of two equal keys wins silently, an alias may contain itself,
a few lines of nested aliases expand to gigabytes, and deep nesting takes libyaml quadratic time. A first pass over
the parser events refuses these before any object is constructed.
"""

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BYTES, DEPTH, NODES, DIGITS = 2**20, 50, 20_000, 100
"""Limits of a configuration: file size, nesting depth, nodes after alias expansion, and digits of a number. The
largest preset has 6 kB, 7 levels and 700 nodes."""

NUMBER = re.compile(rf"[-+.]*\d[-+.:\w]{{{DIGITS},}}")
_parse = get_loader("yaml")


@dataclass
class _Collection:
    """A mapping or list whose end event has not been seen yet."""

    anchor: str | None
    keys: set[str] | None  # keys seen so far; None for a list
    nodes: int = 1
    key_is_next: bool = field(default=True)


def load(text: str) -> Any:
    """Checks and parses YAML as jsonargparse does: `1e-3` is a number and a date is text.

    Raises:
        ValueError: `check` refuses it, or a key is not text.
        yaml.YAMLError: it is not YAML.
    """
    check(text)
    try:
        value = _parse(text)
    except TypeError as error:  # from jsonargparse, for a key that is a number
        raise ValueError(f"a key should be text: {error}") from None
    return with_text_keys(value)


def check(text: str) -> None:
    """Refuses duplicate keys, tags, and input that would take long to parse or much memory.

    Raises:
        ValueError: the text has any of these.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > BYTES:
        raise ValueError(f"expected a configuration of at most {BYTES:,} characters, found {len(text):,}")
    around: list[_Collection] = []
    sizes: dict[str, int] = {}  # of anchored nodes, with aliases expanded
    for event in yaml.parse(text, Loader=LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.NodeEvent):
            size = _size(event, around, sizes, line)
            if around:
                _put(event, around[-1], size, line)
            if isinstance(event, yaml.CollectionStartEvent):
                keys: set[str] | None = set() if isinstance(event, yaml.MappingStartEvent) else None
                around.append(_Collection(event.anchor, keys))
                if len(around) > DEPTH:
                    raise ValueError(f"line {line} is nested deeper than {DEPTH} levels")
            elif isinstance(event, yaml.ScalarEvent) and event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = around.pop()
            if closed.anchor:
                sizes[closed.anchor] = closed.nodes
            if around:
                around[-1].nodes += closed.nodes - 1  # the collection itself was counted at its start


def _size(event: yaml.NodeEvent, around: list[_Collection], sizes: dict[str, int], line: int) -> int:
    """Number of nodes that an event adds; of a collection, only itself, since its items follow."""
    if isinstance(event, yaml.AliasEvent):
        # An anchor that is still open contains this alias.
        if any(one.anchor == event.anchor for one in around):
            raise ValueError(f"line {line}: the alias *{event.anchor} is part of what it stands for")
        return sizes.get(event.anchor or "", 1)
    tag = getattr(event, "tag", None)
    if tag not in (None, "!", "tag:yaml.org,2002:str"):
        raise ValueError(
            f"line {line}: the tag {tag} means nothing in a configuration; leave it out, or quote the text"
        )
    # Only plain (unquoted) scalars become numbers; converting huge ones takes quadratic time.
    if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and NUMBER.fullmatch(event.value):
        raise ValueError(f"line {line}: a number of {len(event.value)} digits; quote it if it is text")
    return 1


def _put(event: yaml.NodeEvent, parent: _Collection, size: int, line: int) -> None:
    """Counts a node in its parent, and records it if it is a key."""
    parent.nodes += size
    if parent.nodes > NODES:
        raise ValueError(f"expected at most {NODES:,} keys and values, found more at line {line}")
    if parent.keys is None:
        return
    if parent.key_is_next:
        if not isinstance(event, yaml.ScalarEvent):
            raise ValueError(f"line {line}: a key should be text, found a mapping, a list or an alias")
        if event.value in parent.keys:
            raise ValueError(f"line {line}: the key {event.value!r} is there twice; remove one of them")
        parent.keys.add(event.value)
    parent.key_is_next = not parent.key_is_next


def with_text_keys(value: Any) -> Any:
    """Returns a value unchanged after checking that all its keys are text.

    Raises:
        ValueError: a key is a number, true, false or null.
    """
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"a key should be text, found {key!r}; quote it if it is meant as text")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        with_text_keys(part)
    return value


def read_text(path: Path) -> str:
    """Reads the text of a configuration file.

    Raises:
        ValueError: it is not a regular file, too large, or not UTF-8.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # reading a pipe could block forever
        raise ValueError(f"{path} is not a regular file; a configuration is read from a file on the disk")
    if found.st_size > BYTES:
        raise ValueError(f"{path} has {found.st_size:,} bytes, a configuration at most {BYTES:,}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}; save it as UTF-8") from None


def read_config(path: Path) -> dict[str, Any]:
    """Reads a YAML file with a mapping at the top.

    Raises:
        ValueError: it cannot be read, is not YAML, or not a mapping.
    """
    return parse_config(read_text(path), str(path))


def parse_config(text: str, source: str) -> dict[str, Any]:
    """Parses YAML with a mapping at the top.

    Args:
        text: the YAML.
        source: where it is from, for messages.

    Raises:
        ValueError: it is not YAML, or not a mapping.
    """
    try:
        content = load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{source} is not valid YAML{where}: {error.problem}; correct it there") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML text: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"{content!r:.60}"
        raise ValueError(f"{source} should hold keys and their values, such as `model:`, found {found}")
    return content
