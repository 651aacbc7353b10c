"""Features of things and of sentences that name classes come in; how often the nearest name is right goes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

FEW = 5
"""Names among which the right one counts as found in the second figure."""

HEAD = ("set", "objects", "top-1", f"top-{FEW}", "chance", "size baseline")


@dataclass(frozen=True)
class Figures:
    """What came of naming the objects of one set.

    Attributes:
        objects: how many there are.
        top1: share of them whose nearest name is right.
        top5: share of them among whose five nearest names the right one is.
        chance: the first share for blind guessing among the set's names.
        size_baseline: the first share for guessing by the sizes of boxes; None where there are none to guess by.
    """

    objects: int
    top1: float
    top5: float
    chance: float
    size_baseline: float | None


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates, when there is one and each has one place for a name."""
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        found = repr(wrong[0]) if wrong else "no template"
        raise ValueError(f"expected templates with one {{}} for the name of a class, found {found}")
    return tuple(templates)


def class_vectors(
    encode: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """A vector of unit length for each class: the mean of the unit vectors of all sentences that name it.

    Args:
        encode: turns T sentences into vectors (T, E) of any length.
        names: C names.
        templates: sentences with `{}` for the name.

    Returns:
        (C, E).
    """
    sentences = [template.format(name) for name in names for template in templates]
    vectors = functional.normalize(encode(sentences), dim=-1).view(len(names), len(templates), -1)
    return functional.normalize(vectors.mean(1), dim=-1)


def ranks_of(things: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """How many classes lie at least as near to each thing as its own: (B,), 0 where the own is nearest.

    Args:
        things: (B, E) of unit length.
        classes: (C, E) of unit length.
        labels: (B,) places of the right classes.
    """
    cosines = things @ classes.T
    own = cosines.gather(1, labels[:, None])
    return (cosines >= own).sum(1) - 1


def figures_of(ranks: Tensor, classes: int, size_baseline: float | None) -> Figures:
    """The figures of a set of objects with these ranks (N,) among so many classes."""
    shares = [(ranks < place).double().mean().item() for place in (1, FEW)]
    return Figures(len(ranks), shares[0], shares[1], 1 / classes, size_baseline)


def table(figures: Mapping[str, Figures]) -> str:
    """A line for each set under a head, as text."""
    rows: list[tuple[str, ...]] = [HEAD]
    for name, found in figures.items():
        shares = (found.top1, found.top5, found.chance, found.size_baseline)
        rows.append(
            (name, str(found.objects), *("-" if share is None else f"{share:.3f}" for share in shares))
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
