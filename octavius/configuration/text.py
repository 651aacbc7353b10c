"""Strict reading of YAML, for configuration files and for values on the command line.

PyYAML accepts more than a configuration means: the last of two equal keys wins silently, an alias may contain
itself, a few lines of nested aliases expand to gigabytes, and deep nesting takes libyaml quadratic time. A first pass
over the events of its parser, which builds nothing, refuses these before anything is constructed.
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
"""Limits of one configuration: file size, nesting, nodes with aliases expanded, and digits of a number. The largest
shipped one has 6 kB, 7 levels and 700 nodes."""

NUMBER = re.compile(rf"[-+.]*\d[-+.:\w]{{{DIGITS},}}")
_parse = get_loader("yaml")


@dataclass
class _Collection:
    """A mapping or list whose end has not been reached."""

    anchor: str | None
    keys: set[str] | None  # of a mapping
    nodes: int = 1
    key_is_next: bool = field(default=True)


def load(text: str) -> Any:
    """Parses YAML as jsonargparse does, in which `1e-3` is a number and a date is text.

    Raises:
        ValueError: it is YAML that no configuration means.
        yaml.YAMLError: it is not YAML.
    """
    check(text)
    try:
        value = _parse(text)
    except TypeError as error:  # jsonargparse's own look at a key that is a number
        raise ValueError(f"a key should be text: {error}") from None
    return with_text_keys(value)


def check(text: str) -> None:
    """Refuses equal keys, tags, and what would take long or much memory.

    Raises:
        ValueError: see above.
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
    """Nodes that an event stands for so far."""
    if isinstance(event, yaml.AliasEvent):
        if any(one.anchor == event.anchor for one in around):
            raise ValueError(f"line {line}: the alias *{event.anchor} is part of what it stands for")
        return sizes.get(event.anchor or "", 1)
    tag = getattr(event, "tag", None)
    if tag not in (None, "!", "tag:yaml.org,2002:str"):
        raise ValueError(
            f"line {line}: the tag {tag} means nothing in a configuration; leave it out, or quote the text"
        )
    if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and NUMBER.fullmatch(event.value):
        raise ValueError(f"line {line}: a number of {len(event.value)} digits; quote it if it is text")
    return 1


def _put(event: yaml.NodeEvent, parent: _Collection, size: int, line: int) -> None:
    """Counts a node in its parent, and keeps the key if it is one."""
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
    """The value itself, all keys of which are text.

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
    """The text of a configuration file.

    Raises:
        ValueError: it is no regular file, too large or not UTF-8.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would keep the run waiting
        raise ValueError(f"{path} is not a regular file; a configuration is read from a file on the disk")
    if found.st_size > BYTES:
        raise ValueError(f"{path} has {found.st_size:,} bytes, a configuration at most {BYTES:,}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}; save it as UTF-8") from None


def read_config(path: Path) -> dict[str, Any]:
    """What a YAML file of settings says.

    Raises:
        ValueError: it cannot be read, is not YAML, or not a list of keys with their values.
    """
    return parse_config(read_text(path), str(path))


def parse_config(text: str, source: str) -> dict[str, Any]:
    """What a YAML text of settings says.

    Args:
        text: the YAML.
        source: where it stands, for messages.

    Raises:
        ValueError: it is not YAML, or not a list of keys with their values.
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
