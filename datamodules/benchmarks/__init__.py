"""The benchmark readers by name. To add a benchmark, write its reader in a file of its own and add a line here."""

from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.benchmarks import conversations, lamm, messages
from datamodules.benchmarks.answers import AnswerReader, read_plain
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

__all__ = ["BENCHMARKS", "BadPolicy", "Benchmark", "DatasetNotFoundError", "Reader", "read"]


@dataclass(frozen=True)
class Benchmark:
    """The readers of a benchmark.

    Attributes:
        samples: reads a split of the data set.
        answers: reads answers of other programs, in the benchmark's format for submissions if it has one.
    """

    samples: Reader
    answers: AnswerReader = read_plain


BENCHMARKS: dict[str, Benchmark] = {
    "coco_detection": Benchmark(coco.read_detection, coco.read_boxes),
    "coco_captioning": Benchmark(coco.read_captioning, coco.read_captions),
    "voc_detection": Benchmark(voc.read, voc.read_boxes),
    "scienceqa": Benchmark(scienceqa.read, scienceqa.read_answers),
    "scienceqa_reasoned": Benchmark(scienceqa.read_reasoned),
    "class_folder": Benchmark(class_folder.read),
    "cifar10": Benchmark(cifar10.read),
    "flickr30k": Benchmark(flickr30k.read, coco.read_captions),
    "flickr30k_tokens": Benchmark(flickr30k.read_tokens),
    "celeba_hair": Benchmark(celeba.read_hair),
    "celeba_smile": Benchmark(celeba.read_smile),
    "lamm": Benchmark(lamm.read),
    "conversations": Benchmark(conversations.read),
    "messages": Benchmark(messages.read),
    "scannet_classification": Benchmark(scannet.read_classification),
    "scanrefer_captioning": Benchmark(scanrefer.read_captioning, scanrefer.read_captions),
    "scanrefer_dense_captioning": Benchmark(scanrefer.read_dense_captioning),
    "scanrefer_found_captioning": Benchmark(scanrefer.read_found_captioning),
    "scanqa": Benchmark(scanqa.read, scanqa.read_answers),
    "scanqa_reasoned": Benchmark(scanqa.read_reasoned),
    "nr3d_captioning": Benchmark(nr3d.read, scanrefer.read_captions),
    "shapenet_classification": Benchmark(shapenet.read),
    "modelnet_classification": Benchmark(modelnet.read),
    "scan2inst": Benchmark(scan2inst.read),
    "scan2inst_pickle": Benchmark(scan2inst_pickle.read),
    "scan2inst_clouds": Benchmark(scan2inst.read_clouds),
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
    samples = BENCHMARKS[name].samples(root, split, bad)
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
