"""Parses the box of the object that a question is about, as typed by a user."""

from octavius.boxes3d import PLAIN, box_error
from octavius.instruction.sample import Region


def region_of(box: str) -> Region:
    """Parses an object: `all` for the whole cloud as one object, or a box as centre and size.

    >>> region_of("1 2 0.5 1 1 1").box
    (1.0, 2.0, 0.5, 1.0, 1.0, 1.0)

    Raises:
        ValueError: it is neither.
    """
    if box.strip() == "all":
        return Region("all", None)
    try:
        numbers = [float(word) for word in box.replace(",", " ").split()]
    except ValueError:
        said: str | None = "it has a word that is no number"
    else:
        said = box_error(numbers) if len(numbers) == PLAIN else f"it has {len(numbers)} numbers"
    if said:
        raise ValueError(
            f'"{box}" is no box: {said}; expected its centre and size in metres as "x y z dx dy dz", or all'
        )
    x, y, z, dx, dy, dz = numbers
    return Region(box, (x, y, z, dx, dy, dz))
