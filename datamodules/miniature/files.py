"""Writes the miniature's images and annotations, in the official layouts of real data sets."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.miniature import draw
from datamodules.miniature.layouts import LAYOUTS, Item
from datamodules.miniature.once import PROCESSES, mapping, once
from datamodules.miniature.world import Face, Shift, generator
from octavius.limits import POSITIVE_INT, SEED_RANGE

VERSION = 3
"""Incremented when the same seed and sizes yield other scenes, texts or files."""

RECORD = "miniature.json"
"""File with seed and sizes, written last: a folder that has it is complete."""

WORLDS: dict[str, Shift] = {"seen": "none", "unseen_pairs": "pairs", "unseen_style": "style"}
"""Distribution shift of each folder; only `seen` has a training split, the others are zero-shot test sets."""

FEW = 500
"""Below this number of images, no process pool is started."""


@dataclass(frozen=True)
class Sizes:
    """Number of images.

    Attributes:
        scenes: training images in COCO's layout.
        questions: training images with a question in ScienceQA's layout.
        classes: training images in class folders.
        faces: training images in CelebA's layout.
        val: images per layout and folder of `WORLDS` in the split `val`, except for ScienceQA's.
        test: the same for the split `test`.
        val_questions: images in ScienceQA's layout per folder in the split `val`.
        test_questions: the same for the split `test`.
    """

    scenes: int = 8_000
    questions: int = 8_000
    classes: int = 2_500
    faces: int = 2_500
    val: int = 100
    test: int = 200
    val_questions: int = 250
    test_questions: int = 500

    def __post_init__(self) -> None:
        """Refuses sets too small to contain every class and every kind of question."""
        small = {name: size for name, size in asdict(self).items() if size < 10}
        if small:
            raise ValueError(f"every size should be at least 10, so that each class occurs; found {small}")

    def of(self, world: str, layout: str, split: str) -> int:
        """Number of items in a split of a layout of a world; 0 if there is no such split."""
        if split == "train":
            train = {
                "coco": self.scenes,
                "scienceqa": self.questions,
                "classes": self.classes,
                "celeba": self.faces,
            }
            return train.get(layout, 0) if WORLDS[world] == "none" else 0
        asked = {"val": self.val_questions, "test": self.test_questions}
        return asked[split] if layout == "scienceqa" else {"val": self.val, "test": self.test}[split]


DEFAULT_SIZES = Sizes()


@dataclass(frozen=True)
class Job:
    """One item to generate and draw.

    Attributes:
        world: a key of `WORLDS`.
        layout: a key of `LAYOUTS`.
        split: `train`, `val` or `test`.
        index: index in the split, which seeds the item.
        number: number for file names and ids, from 1 through all splits.
    """

    world: str
    layout: str
    split: str
    index: int
    number: int


def build(
    root: Path,
    seed: int = 0,
    sizes: Sizes = DEFAULT_SIZES,
    progress: bool = True,
    processes: int | None = None,
) -> Path:
    """Writes the miniature unless the root already contains it with the same settings.

    Args:
        root: folder to create; it appears atomically when complete.
        seed: seed of everything in it.
        sizes: number of items per set.
        progress: show a progress bar.
        processes: number of processes that draw; null uses all cores.

    Raises:
        ValueError: the root contains something else.
    """
    SEED_RANGE.check(seed=seed)
    POSITIVE_INT.check(**asdict(sizes))
    PROCESSES.check(processes=processes)
    record = {"version": VERSION, "drawing": draw.VERSION, "seed": seed, "sizes": asdict(sizes)}
    return once(root, RECORD, record, lambda home: _write(home, seed, sizes, progress, processes))


def make_item(seed: int, world: str, layout: str, split: str, index: int) -> Item:
    """Generates the scene or face of one item, deterministically."""
    rng = generator(seed, f"files/{world}/{layout}/{split}", index)
    return LAYOUTS[layout].make(rng, WORLDS[world], index)


def _write(root: Path, seed: int, sizes: Sizes, progress: bool, processes: int | None) -> None:
    """Draws all images, then writes all annotation files."""
    jobs = list(_plan(sizes))
    sets: dict[tuple[str, str], dict[str, dict[int, Item]]] = {}
    with mapping(processes, len(jobs), FEW) as run:
        items = run(_draw, [root] * len(jobs), [seed] * len(jobs), jobs)
        shown = tqdm(items, "writing the miniature", len(jobs), unit=" pictures", disable=not progress)
        for job, item in zip(jobs, shown, strict=True):
            sets.setdefault((job.world, job.layout), {}).setdefault(job.split, {})[job.number] = item
    for (world, layout), splits in sets.items():
        LAYOUTS[layout].annotate(root / world / LAYOUTS[layout].folder, splits)


def _plan(sizes: Sizes) -> Iterator[Job]:
    """All items of the miniature."""
    for world in WORLDS:
        for layout in LAYOUTS:
            number = 0
            for split in ("train", "val", "test"):
                for index in range(sizes.of(world, layout, split)):
                    number += 1
                    yield Job(world, layout, split, index, number)


def _draw(root: Path, seed: int, job: Job) -> Item:
    """Generates one item and saves its image."""
    item = make_item(seed, job.world, job.layout, job.split, job.index)
    layout = LAYOUTS[job.layout]
    path = root / job.world / layout.folder / layout.picture(job.split, job.number, item)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = draw.draw_face(item.facts) if isinstance(item.facts, Face) else draw.draw_scene(item.facts)
    if path.suffix == ".png":
        image.save(path)
    else:
        image.save(path, quality=95, subsampling=0)  # no chroma subsampling, which would blur colours
    return item
