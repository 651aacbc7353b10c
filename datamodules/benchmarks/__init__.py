"""The benchmark readers by name. To add a benchmark, write its reader in a file of its own and add a line here."""

from dataclasses import replace
from pathlib import Path

from datamodules.benchmarks import conversations, lamm, messages
from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DatasetNotFoundError, Reader
from datamodules.benchmarks.clouds import (
    modelnet,
    nr3d,
    scan2inst,
    scan2inst_pickle,
    scannet,
    scanqa,
    scanrefer,
    shapenet,
)
from datamodules.benchmarks.images import celeba, cifar10, class_folder, coco, flickr30k, scienceqa, voc
from datamodules.benchmarks.values import shown
from octavius.instruction.sample import Boxes, Sample
from octavius.suggestions import nearest
from octavius.tasks import TASKS

__all__ = ["BENCHMARKS", "BadPolicy", "DatasetNotFoundError", "Reader", "read"]

BENCHMARKS: dict[str, Reader] = {
    "coco_detection": coco.read_detection,
    "coco_captioning": coco.read_captioning,
    "voc_detection": voc.read,
    "scienceqa": scienceqa.read,
    "scienceqa_reasoned": scienceqa.read_reasoned,
    "class_folder": class_folder.read,
    "cifar10": cifar10.read,
    "flickr30k": flickr30k.read,
    "flickr30k_tokens": flickr30k.read_tokens,
    "celeba_hair": celeba.read_hair,
    "celeba_smile": celeba.read_smile,
    "lamm": lamm.read,
    "conversations": conversations.read,
    "messages": messages.read,
    "scannet_classification": scannet.read_classification,
    "scanrefer_captioning": scanrefer.read_captioning,
    "scanrefer_dense_captioning": scanrefer.read_dense_captioning,
    "scanrefer_found_captioning": scanrefer.read_found_captioning,
    "scanqa": scanqa.read,
    "scanqa_reasoned": scanqa.read_reasoned,
    "nr3d_captioning": nr3d.read,
    "shapenet_classification": shapenet.read,
    "modelnet_classification": modelnet.read,
    "scan2inst": scan2inst.read,
    "scan2inst_pickle": scan2inst_pickle.read,
    "scan2inst_clouds": scan2inst.read_clouds,
}


def read(name: str, root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """Reads all samples of one split of a benchmark and validates them.

    There is at least one sample, ids are unique, and every gold can be written by its task.

    Args:
        name: a key of `BENCHMARKS`.
        root: folder of the data set, in its official layout.
        split: name of the split in the data set, such as `val2017`.
        bad: `error` stops at the first bad item, `skip` leaves bad items out and warns once.

    Raises:
        ValueError: the name is unknown, an item is bad (with `bad="error"`), or there is no sample.
        DatasetNotFoundError: a file of the official layout is missing.

    Warns:
        LeftOutWarning: items were left out.
    """
    if name not in BENCHMARKS:
        raise ValueError(
            f"unknown benchmark '{name}'{nearest(name, BENCHMARKS)}"
            f"; known ones are {', '.join(sorted(BENCHMARKS))}"
        )
    samples = BENCHMARKS[name](root, split, bad)
    items = BadItems(bad, root)
    checked = dict[str, Sample]()
    for sample in samples:
        with items.guard(f"sample {shown(sample.id)}"):
            if checked.setdefault(sample.id, sample) is not sample:
                raise BadItemError(f"its id occurs more than once in {name}, split '{split}'")
    for sample in list(checked.values()):
        with items.guard(f"sample {shown(sample.id)}"):
            try:
                TASKS[sample.task].value(sample)
            except ValueError as error:
                del checked[sample.id]
                raise BadItemError(str(error)) from None
    items.report()
    if not checked:
        raise ValueError(f"{name}, split '{split}': no sample found under {root}; expected at least one")
    return [_on_stored_pixels(sample) for sample in checked.values()]


def _on_stored_pixels(sample: Sample) -> Sample:
    """Disables EXIF rotation for samples with boxes: annotated boxes refer to the pixels as stored."""
    if not isinstance(sample.gold, Boxes):
        return sample
    return replace(sample, media={name: replace(item, stored=True) for name, item in sample.media.items()})
