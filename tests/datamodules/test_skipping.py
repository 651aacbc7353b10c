"""With `bad: skip` an unreadable sample is replaced by another, the same one however the run is interrupted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, EvaluationExamples, TrainingExamples, TrainSet
from datamodules.mixture import Draw, MixtureSampler
from octavius.instruction.batch import Example, FailedSample, Processor
from octavius.instruction.sample import Media, References, Sample

Told = tuple[str, str, str | None]
"""A sample's id, its answer in ids, and the id of the sample that it stands in for."""


def samples(folder: Path, count: int, broken: Sequence[int], long: Sequence[int] = ()) -> list[Sample]:
    found = []
    for number in range(count):
        file = folder / f"{number}.png"
        if number in broken:
            file.write_bytes(b"no picture")
        else:
            Image.new("RGB", (4, 4), (number, 0, 0)).save(file)
        texts = tuple(f"A picture of {index} things." for index in range(8))
        texts = ("word " * 5000,) if number in long else texts
        media = {"image": Media(path=file)}
        found.append(Sample(str(number), "captioning", "coco_captioning", media, "", References(texts)))
    return found


def told(example: Example) -> Told:
    gone = example.replaces
    return example.sample.id, str(example.prompt.ids), gone.sample.id if gone else None


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return samples(tmp_path_factory.mktemp("mixed"), 12, broken=(3, 7, 11), long=(5,))


def test_another_of_its_set_stands_in_and_the_reason_is_kept(
    processor: Processor, mixed: list[Sample]
) -> None:
    examples = TrainingExamples([TrainSet(mixed, bad="skip")], processor, 0)
    for index in range(12):
        found = examples[Draw(0, index, 0)]
        if index in (3, 5, 7, 11):
            assert isinstance(found.replaces, FailedSample)
            assert found.replaces.sample is mixed[index]
            wrong = "max_tokens" if index == 5 else f"{index}.png is not an image"
            assert wrong in found.replaces.reason
            assert int(found.sample.id) not in (3, 5, 7, 11)
        else:
            assert (found.sample, found.replaces) == (mixed[index], None)
    standing = {examples[Draw(0, 3, epoch)].sample.id for epoch in range(20)}
    assert len(standing) > 3, "not the same neighbour for ever"


def test_without_skip_the_run_ends_with_the_name(processor: Processor, mixed: list[Sample]) -> None:
    examples = TrainingExamples([TrainSet(mixed)], processor, 0)
    with pytest.raises(ValueError, match=r"sample 3 of coco_captioning: .*3\.png is not an image"):
        examples[Draw(0, 3, 0)]
    with pytest.raises(ValueError, match=r"sample 3 of coco_captioning: .*3\.png is not an image"):
        EvaluationExamples([EvalSet("coco_captioning", mixed)], processor)[3]


@settings(max_examples=30, deadline=None)
@given(world=st.integers(1, 3), first=st.integers(0, 3), seed=st.integers(0, 5))
def test_ranks_and_resumed_runs_read_what_one_run_reads(
    processor: Processor, mixed: list[Sample], world: int, first: int, seed: int
) -> None:
    sets = [TrainSet(mixed, bad="skip"), TrainSet(mixed[:4], 2.0, bad="skip")]
    sizes, weights = [len(item.samples) for item in sets], [item.weight for item in sets]

    def run(rank: int, world: int, batch: int, start: int) -> list[Told]:
        sampler = MixtureSampler(sizes, weights, 24, batch, seed, rank, world)
        sampler.resume(1, start)
        examples = TrainingExamples(sets, processor, seed)  # as a new process has it
        return [told(examples[draw]) for draw in sampler]

    alone = run(0, 1, 6, 0)
    assert any(one[2] is not None for one in alone)
    size = 6 // world
    parts = [run(rank, world, size, first) for rank in range(world)]
    steps = len(parts[0]) // size
    together = [
        one for step in range(steps) for part in parts for one in part[step * size : (step + 1) * size]
    ]
    assert together == alone[first * 6 :]


def test_batches_of_like_length_pass_over_prompts_that_cannot_be_made(
    processor: Processor, mixed: list[Sample]
) -> None:
    examples = TrainingExamples([TrainSet(mixed, bad="skip")], processor, 0)
    assert 0 < examples.length(Draw(0, 5, 0)) < 200
    with pytest.raises(ValueError, match="max_tokens"):
        TrainingExamples([TrainSet(mixed)], processor, 0).length(Draw(0, 5, 0))


def test_where_all_are_bad_it_ends_with_a_message(processor: Processor, tmp_path: Path) -> None:
    bad = samples(tmp_path, 5, broken=range(5))
    message = r"none of [56] samples that were tried .* the first: sample 2 of .*2\.png .*check-data --config"
    with pytest.raises(ValueError, match=message):
        TrainingExamples([TrainSet(bad, bad="skip")], processor, 0)[Draw(0, 2, 0)]
    with pytest.raises(ValueError, match=message.replace("coco_captioning", "all")):
        EvaluationExamples([EvalSet("all", bad, bad="skip")], processor)[2]


def test_a_large_set_that_is_all_bad_is_not_read_to_its_end(processor: Processor, tmp_path: Path) -> None:
    [one] = samples(tmp_path, 1, broken=[0])
    with pytest.raises(ValueError, match="none of 101 samples"):
        TrainingExamples([TrainSet([one] * 10_000, bad="skip")], processor, 0)[Draw(0, 2, 0)]


def test_an_evaluation_keeps_its_places(processor: Processor, mixed: list[Sample]) -> None:
    data = EvaluationExamples(
        [EvalSet("a", mixed, bad="skip"), EvalSet("b", mixed[:4], bad="skip")], processor
    )
    assert len(data) == 16
    gone = {index: data[index].replaces for index in range(16) if data[index].replaces is not None}
    assert list(gone) == [3, 7, 11, 15]
    assert [(data[index].set_name, one.sample.id) for index, one in gone.items()] == [
        ("a", "3"),
        ("a", "7"),
        ("a", "11"),
        ("b", "3"),
    ]
    assert data[11].sample.id == "0", "the next of its set, from the front again"


class Loaders(InstructionDataModule):
    """One training set and one evaluation set."""

    def __init__(self, taken: list[Sample], processor: Processor, **options: Any) -> None:
        super().__init__(4, 4, processor=processor, **options)
        self.taken = taken

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(self.taken, bad="skip")]

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002
        return [EvalSet("a", self.taken, bad="skip")]


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
def test_batches_tell_what_was_left_out_of_them(
    processor: Processor, mixed: list[Sample], batching: Any
) -> None:
    batches = list(Loaders(mixed, processor, workers=1, batching=batching).train_dataloader())
    assert [len(batch) for batch in batches] == [len(batch.replaces) for batch in batches] == [4, 4, 4]
    gone = [one.sample.id for batch in batches for one in batch.replaces if one is not None]
    assert sorted(gone, key=int) == ["3", "5", "7", "11"]
