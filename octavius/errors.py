"""Formats exceptions as one message for users, in particular those of jsonargparse."""

import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any

from octavius.checkpoint_format.earlier import option_hint
from octavius.suggestions import nearest

FRAME = (
    "Parser key",
    "Problem with",
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a <class 'NoneType'>",
)
"""Prefixes of lines in which jsonargparse reports what it tried at each level; they are dropped."""

LONGEST = 4000
"""Maximum number of characters of a message; a name in a damaged file may have any length."""


def message(error: BaseException) -> str:
    """The text of an error; for one that passed through a data worker or the parser, that of its cause.

    If the text is longer than `LONGEST` characters, its middle is left out.
    """
    text = str(error)
    if "Original Traceback" in text:
        text = re.split(rf"^(?:[\w.]+\.)?{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]
    text = readable(text.strip())
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
    return text


def readable(text: str, options: Sequence[str] = ()) -> str:
    """Reduces a message of jsonargparse to what a user needs, and suggests the nearest option to an unknown one.

    Args:
        text: the message.
        options: the existing options, such as `--trainer.max_epochs`.
    """
    keys = re.findall(r'Parser key "(.+)":', text)
    framed = keys or "Union subtypes" in text
    said = _unknown_option(text, options) or (_wrong_value(text) if framed else text)
    return f"{'.'.join(keys)}: {said}" if keys else said


def imported(name: str) -> Any:
    """The object of a dotted name, or None; looks only at modules that are already imported.

    Importing runs code, which a name in a message or a configuration must not cause.
    """
    module, _, attributes = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, part = module.rpartition(".")
        attributes = f"{part}.{attributes}"
    found: Any = sys.modules.get(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute, None)
    return found


def _unknown_option(text: str, options: Sequence[str]) -> str:
    """The message for an unknown option with a suggestion; empty if the text is about something else."""
    if found := re.search(r"unrecognized arguments: (\S+)", text):
        hint = option_hint("", found[1]) or nearest(found[1], options) or "; --help lists them"
        return f"there is no option '{found[1]}'{hint}"
    if found := re.search(r"Group '(\S+)' does not accept option '(\S+)'", text):
        owner, name = found[1], found[2]
        known = [option.removeprefix(f"--{owner}.") for option in options if option.startswith(f"--{owner}.")]
    elif found := re.search(r"Option '(\S+)' is not accepted", text):
        owners, name = re.findall(r"class_path '(\S+)'", text[: found.start()]), found[1]
        owner = owners[-1].rpartition(".")[2] if owners else "the configuration"
        found_class = imported(owners[-1]) if owners else None
        parameters = {} if found_class is None else inspect.signature(found_class).parameters
        known = [name for name, one in parameters.items() if one.kind is not one.POSITIONAL_ONLY]
        if not owners:
            name = name.split(".")[0]
            known = sorted({option.removeprefix("--").split(".")[0] for option in options})
    else:
        return ""
    hint = option_hint(owner, name) or nearest(name, known) or f"; it has {', '.join(known)}"
    return f"{owner} has no option '{name}'{hint}"


def _wrong_value(text: str) -> str:
    """What was expected of a value and what was found, or the message of the class that rejected it."""
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(FRAME)]
    if found := re.search(r"Expected a dot import path string: (\S+)", text):
        name, hint = found[1], nearest(found[1], _own_classes())
        return f"there is no class '{name}'{hint}; one that is not Octavius' own needs its module, as in a.b.Class"
    words = [line for line in said if not line.startswith("Expected a ")]
    if words:
        return "\n".join(words)
    wanted = " or ".join(line.removeprefix("Expected a ").split(". Got value: ")[0] for line in said)
    wanted = re.sub(
        r"<class '(?:\w+\.)*(\w+)'>", r"\1", re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", wanted)
    )
    given = re.search(r"(?:Got value|Given value): (.*)", text)
    if given is None:
        return f"expected {wanted}"
    choices = [
        choice for listed in re.findall(r"Literal\[(.*?)\]", text) for choice in re.findall("'(.*?)'", listed)
    ]
    return f"expected {wanted}, found {given[1]:.100}{nearest(given[1], choices)}"


def _own_classes() -> list[str]:
    """Names of the classes of Octavius that are imported, which configurations name without their module."""
    return [
        name
        for module in list(sys.modules.values())
        if module.__name__.startswith(("octavius.", "datamodules."))
        for name, found in vars(module).items()
        if isinstance(found, type) and found.__module__ == module.__name__
    ]
