"""A gold comes in, plain JSON of all that scoring needs of it goes out, and the same gold again from that JSON."""

from collections.abc import Mapping
from typing import Any

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


def to_json(gold: Gold) -> dict[str, Any]:
    """The gold as JSON holds it; a reason is left out, since no score reads it.

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
    """The gold of a JSON object.

    Raises:
        ValueError: it is none of those that `to_json` writes.

    >>> from_json({"name": "cat", "names": ["cat", "dog"]})
    ClassName(name='cat', names=('cat', 'dog'))
    """
    try:
        if "options" in record:
            return Choice(tuple(record["options"]), int(record["answer"]))
        if "names" in record:
            return ClassName(str(record["name"]), tuple(record["names"]))
        if "texts" in record:
            return References(tuple(record["texts"]), str(record.get("scene", "")))
        if "boxes" in record:
            rows = [
                (str(row["label"]), _four(row["box"]), bool(row.get("ignored"))) for row in record["boxes"]
            ]
            return Boxes(tuple(LabelledBox(label, box, ignored=out) for label, box, out in rows))
        if "described" in record:
            items = [DescribedObject(_six(row["box"]), tuple(row["texts"])) for row in record["described"]]
            if "found" in record:
                return FoundObject(str(record["scene"]), _six(record["found"]), tuple(items))
            return DescribedObjects(tuple(items))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the gold {str(record)[:100]} is not whole: {error!r}") from None
    raise ValueError(
        f"expected a gold with options, names, texts, boxes or described, found {str(record)[:100]}"
    )


def _four(numbers: list[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = map(float, numbers)
    return x1, y1, x2, y2


def _six(numbers: list[float]) -> tuple[float, float, float, float, float, float]:
    x, y, z, dx, dy, dz = map(float, numbers)
    return x, y, z, dx, dy, dz
