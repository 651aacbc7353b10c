"""Serializes golds to plain JSON and back, with everything that scoring needs."""

from collections.abc import Mapping
from typing import Any, TypeVar

from octavius.instruction.sample import (
    Boxes,
    Choice,
    ClassName,
    DescribedObject,
    DescribedObjects,
    FoundObject,
    Gold,
    LabelledBox,
    References,
)

T = TypeVar("T")

LARGEST = 1e9
"""Bound on the absolute value of a coordinate."""


def to_json(gold: Gold) -> dict[str, Any]:
    """Converts a gold to plain JSON values; a reason is dropped, as no score reads it.

    >>> to_json(Choice(("red", "blue"), 1, "it is the sky"))
    {'options': ['red', 'blue'], 'answer': 1}
    """
    if isinstance(gold, Choice):
        return {"options": list(gold.options), "answer": gold.answer}
    if isinstance(gold, ClassName):
        return {"name": gold.name, "names": list(gold.names)}
    if isinstance(gold, References):
        return {"texts": list(gold.texts), "scene": gold.scene}
    if isinstance(gold, Boxes):
        boxes = [
            {"label": item.label, "box": list(item.box), "ignored": item.ignored} for item in gold.objects
        ]
        return {"boxes": boxes}
    if isinstance(gold, DescribedObjects):
        return {"described": [{"texts": list(item.texts), "box": list(item.box)} for item in gold.objects]}
    if isinstance(gold, FoundObject):
        described = to_json(DescribedObjects(gold.objects))
        return {"found": list(gold.box), "scene": gold.scene, **described}
    raise ValueError(f"a gold of type {type(gold).__name__} belongs to no task that answers in text")


def from_json(record: Mapping[str, Any]) -> Gold:
    """Restores a gold from its JSON object.

    Raises:
        ValueError: the object is not one that `to_json` returns.

    >>> from_json({"name": "cat", "names": ["cat", "dog"]})
    ClassName(name='cat', names=('cat', 'dog'))
    """
    try:
        if "options" in record:
            return Choice(_texts(record["options"]), _kind(record["answer"], int))
        if "names" in record:
            return ClassName(_kind(record["name"], str), _texts(record["names"]))
        if "texts" in record:
            return References(_texts(record["texts"]), str(record.get("scene", "")))
        if "boxes" in record:
            return Boxes(tuple(_labelled(_kind(row, dict)) for row in _kind(record["boxes"], list)))
        if "described" in record:
            rows = [_kind(row, dict) for row in _kind(record["described"], list)]
            items = tuple(DescribedObject(_six(row["box"]), _texts(row["texts"])) for row in rows)
            if "found" in record:
                return FoundObject(_kind(record["scene"], str), _six(record["found"]), items)
            return DescribedObjects(items)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the gold {str(record)[:100]} is malformed: {error!r}") from None
    raise ValueError(
        f"expected a gold with options, names, texts, boxes or described, found {str(record)[:100]}"
    )


def _kind(value: Any, kind: type[T]) -> T:
    """Checks that a value is exactly of a type; booleans are not integers."""
    if type(value) is not kind:
        raise ValueError(f"expected a {kind.__name__}, found {str(value)[:60]!r}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_kind(text, str) for text in _kind(value, list))


def _labelled(row: dict[str, Any]) -> LabelledBox:
    ignored = _kind(row.get("ignored", False), bool)
    return LabelledBox(_kind(row["label"], str), _four(row["box"]), ignored=ignored)


def _four(numbers: Any) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = _numbers(numbers)
    return x1, y1, x2, y2


def _six(numbers: Any) -> tuple[float, float, float, float, float, float]:
    x, y, z, dx, dy, dz = _numbers(numbers)
    return x, y, z, dx, dy, dz


def _numbers(values: Any) -> list[float]:
    for value in _kind(values, list):
        if type(value) not in (int, float) or not -LARGEST < value < LARGEST:
            raise ValueError(f"expected a number, found {str(value)[:60]!r}")
    return [float(value) for value in values]
