"""Zero-shot classification by the nearest class name: top-1 and top-5 accuracy with baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

FEW = 5
"""k of the top-k accuracy besides top-1."""

HEAD = ("set", "objects", "top-1", f"top-{FEW}", "chance", "size baseline")


@dataclass(frozen=True)
class Figures:
    """Zero-shot results on one set.

    Attributes:
        objects: number of objects.
        top1: top-1 accuracy.
        top5: top-5 accuracy.
        chance: top-1 accuracy of a uniform guess among the set's names.
        size_baseline: top-1 accuracy of guessing by box size; None if the set has no boxes.
    """

    objects: int
    top1: float
    top5: float
    chance: float
    size_baseline: float | None


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Checks that there are templates, each with one `{}`, and returns them.

    Raises:
        ValueError: there are none, or one is malformed.
    """
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        found = repr(wrong[0]) if wrong else "no template"
        raise ValueError(f"expected templates with one {{}} for the name of a class, found {found}")
    return tuple(templates)


def class_vectors(
    encode: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """A unit vector for each class: the normalized mean of the unit vectors of all sentences that name it.

    Args:
        encode: maps T sentences to vectors (T, E) of any norm.
        names: C class names.
        templates: sentences with `{}` for the name.

    Returns:
        (C, E).
    """
    sentences = [template.format(name) for name in names for template in templates]
    vectors = functional.normalize(encode(sentences), dim=-1).view(len(names), len(templates), -1)
    return functional.normalize(vectors.mean(1), dim=-1)


def ranks_of(things: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """Rank of each object's own class by cosine similarity, (B,); 0 is the nearest, ties count against it.

    Args:
        things: (B, E) unit vectors.
        classes: (C, E) unit vectors.
        labels: (B,) indices of the right classes.
    """
    cosines = things @ classes.T
    true_cosines = cosines.gather(1, labels[:, None])
    return (cosines >= true_cosines).sum(1) - 1


def figures_of(ranks: Tensor, classes: int, size_baseline: float | None) -> Figures:
    """The results from the ranks (N,) of a set's objects among `classes` names."""
    shares = [(ranks < k).double().mean().item() for k in (1, FEW)]
    return Figures(len(ranks), shares[0], shares[1], 1 / classes, size_baseline)


def table(figures: Mapping[str, Figures]) -> str:
    """The results as a text table, one line per set."""
    rows: list[tuple[str, ...]] = [HEAD]
    for name, found in figures.items():
        shares = (found.top1, found.top5, found.chance, found.size_baseline)
        rows.append(
            (name, str(found.objects), *("-" if share is None else f"{share:.3f}" for share in shares))
        )
    widths = [max(len(row[index]) for row in rows) for index in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
