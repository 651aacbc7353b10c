"""Every benchmark of the suite, in tiny files of its exact layout, becomes batches that a model can be asked."""

from pathlib import Path

import pytest

from datamodules.clouds import CloudInstructions
from datamodules.images import ImageInstructions
from datamodules.source_instructions import SourceInstructions
from datamodules.suite import sources
from octavius.instruction.batch import Processor
from octavius.tasks import TASKS
from tests.datamodules import data_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_root.write(tmp_path_factory.mktemp("suite") / "data")


@pytest.mark.parametrize(
    ("names", "kind", "modality"),
    [
        ("2d,lamm_2d,voc2007,coco_detection,coco_captioning", ImageInstructions, "image"),
        ("3d", CloudInstructions, "cloud"),
    ],
)
def test_all_are_asked_and_right_answers_are_understood(
    root: Path,
    names: str,
    kind: type[SourceInstructions],
    modality: str,
    processor: Processor,
    cloud_processor: Processor,
) -> None:
    chosen = sources(names)
    data = kind(str(root), test=chosen, eval_batch_size=7, workers=0)
    data.processor = processor if modality == "image" else cloud_processor
    batches = list(data.test_dataloader())
    asked = [sample for batch in batches for sample in batch.samples]
    named = [one.set_name for batch in batches for one in batch.metadata]
    assert set(named) == {source.title for source in chosen}
    assert {name for name, sample in zip(named, asked, strict=True) if sample.protocol == "published"} == {
        source.title for source in chosen if source.title.startswith("lamm_")
    }
    assert all(set(sample.media) == {modality} for sample in asked)
    for sample in asked:
        task = TASKS[sample.task]
        task.metrics(sample.protocol)
        assert task.value(sample) is not None
