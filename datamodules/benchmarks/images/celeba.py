"""CelebA, from its lists of attributes and partitions: questions about hair colour and about smiling."""

from collections.abc import Iterator
from pathlib import Path

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.documents import read_lines
from datamodules.benchmarks.values import shown
from octavius.instruction.sample import ClassName, Media, Sample
from octavius.suggestions import nearest

LAYOUT = """\
  <root>/list_attr_celeba.txt        or .csv
  <root>/list_eval_partition.txt     or .csv
  <root>/img_align_celeba/*.jpg
"""

PARTITIONS = {"train": "0", "val": "1", "test": "2"}
"""Splits, and their numbers in the partition list."""

HAIR_QUESTION = "What is the hair colour of this person?"
HAIR = {"black": "Black_Hair", "blond": "Blond_Hair", "brown": "Brown_Hair", "gray": "Gray_Hair"}
SMILE_QUESTION = "Is this person smiling?"
SMILE = "Smiling"


def read_hair(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image of the split with exactly one of the four hair colours."""
    samples = []
    for path, attributes in _faces(root, split, bad, tuple(HAIR.values())):
        colours = [colour for colour, attribute in HAIR.items() if attributes[attribute]]
        if len(colours) == 1:
            gold = ClassName(colours[0], tuple(HAIR))
            samples.append(_sample(path, "celeba_hair", HAIR_QUESTION, gold))
    return samples


def read_smile(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image of the split."""
    samples = []
    for path, attributes in _faces(root, split, bad, (SMILE,)):
        gold = ClassName("yes" if attributes[SMILE] else "no", ("yes", "no"))
        samples.append(_sample(path, "celeba_smile", SMILE_QUESTION, gold))
    return samples


def _sample(path: Path, benchmark: str, question: str, gold: ClassName) -> Sample:
    return Sample(path.name, "facial_attributes", benchmark, {"image": Media(path=path)}, question, gold)


def _faces(
    root: Path, split: str, bad: BadPolicy, wanted: tuple[str, ...]
) -> Iterator[tuple[Path, dict[str, bool]]]:
    """The images of the split, each with the wanted attributes.

    Both official lists name the same images, so an image that only one of them names is a bad item.
    """
    if split not in PARTITIONS:
        raise ValueError(
            f"CelebA has no split '{split}'{nearest(split, PARTITIONS)}; it has {', '.join(PARTITIONS)}"
        )
    file = need(root, LAYOUT, "list_attr_celeba.txt", "list_attr_celeba.csv")
    partition = need(root, LAYOUT, "list_eval_partition.txt", "list_eval_partition.csv")
    images = DataFolder(need(root, LAYOUT, "img_align_celeba/"))
    items = BadItems(bad, root)
    partition_of = _partition(partition, items)
    header, rows = _table(file, items)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise ValueError(f"{file}: expected columns {', '.join(missing)}, found {', '.join(header)}")
    columns = {name: header.index(name) for name in wanted}
    left = {name for name, number in partition_of.items() if number == PARTITIONS[split]}
    for number, row in rows:
        if row[0] not in partition_of:
            with items.guard(f"{file.name} line {number}"):
                raise BadItemError(f"the image {shown(row[0])} is in no partition of {partition.name}")
        elif row[0] in left:
            left.remove(row[0])
            with items.guard(f"{file.name} line {number}"):
                if len(row) != len(header):
                    raise BadItemError(f"expected {len(header)} columns, found {len(row)}")
                attributes = {name: _flag(name, row[column]) for name, column in columns.items()}
                path = images.file(row[0])
                yield path, attributes
        elif partition_of[row[0]] == PARTITIONS[split]:
            with items.guard(f"{file.name} line {number}"):
                raise BadItemError(f"the image {shown(row[0])} is listed twice")
    for name in sorted(left):
        with items.guard(f"the image {name}"):
            raise BadItemError(f"it is in {partition.name}, but has no attributes in {file.name}")
    items.report()


def _flag(name: str, value: str) -> bool:
    if value not in ("1", "-1", "0"):  # 0 in some converted copies
        raise BadItemError(f"{name} should be 1 or -1, found {shown(value)}")
    return value == "1"


def _words(file: Path) -> list[tuple[int, list[str]]]:
    """The non-blank lines split at white space and commas, with line numbers."""
    lines = [(number, line.replace(",", " ").split()) for number, line in read_lines(file)]
    if not lines:
        raise ValueError(f"{file} is empty; copy the official file again")
    return lines


def _partition(file: Path, items: BadItems) -> dict[str, str]:
    """Partition of each image; a header line is allowed, though the official file has none."""
    partition_of: dict[str, str] = {}
    for index, (number, words) in enumerate(_words(file)):
        if index == 0 and words[-1] == "partition":
            continue
        with items.guard(f"{file.name} line {number}"):
            if len(words) != 2 or words[1] not in PARTITIONS.values():
                partition_of.setdefault(words[0], "")  # so that it is not reported again for its attributes
                raise BadItemError(f"expected an image and 0, 1 or 2, found {shown(' '.join(words))}")
            if partition_of.setdefault(words[0], words[1]) != words[1]:
                raise BadItemError(f"the image {shown(words[0])} is in two partitions")
    return partition_of


def _table(file: Path, items: BadItems) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names (that of the image first), and the rows with their line numbers, of the attribute file.

    The official file has a line with the number of images, a line with the names of the attributes, and the rows.
    Common variants lack the first line, or also name the image column.
    """
    lines = _words(file)
    first = lines[0][1]
    counted = len(first) == 1 and first[0].isdecimal() and len(first[0]) < 10
    (_, header), *rows = lines[1:] if counted and len(lines) > 1 else lines
    if counted:
        with items.guard(f"{file.name} line 1"):
            if int(first[0]) != len(rows):
                raise BadItemError(f"expected {first[0]} images, found {len(rows)}; is the file cut short?")
    if rows and len(header) < len(rows[0][1]):
        header = ["image", *header]
    return header, rows
