"""Loaders serve any number of ranks, score each sample once, and resume where a killed run stopped."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media, References, Sample


def samples(name: str, count: int) -> list[Sample]:
    image = Media(array=np.zeros((4, 4, 3), np.uint8))
    return [
        Sample(f"{name}{number}", "captioning", name, {"image": image}, "", References(("a", "b", "c")))
        for number in range(count)
    ]


class Few(InstructionDataModule):
    """Two training sets of 7 and 5 samples; evaluation sets of 5 and 2."""

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(samples("a", 7), 2.0), TrainSet(samples("b", 5), 1.0)]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        return [EvalSet(f"{stage}_x", samples("x", 5)), EvalSet(f"{stage}_y", samples("y", 2), True)]


def few(processor: Processor | None, rank: int = 0, world: int = 1, **options: Any) -> Few:
    data = Few(processor=processor, **{"batch_size": 2, "eval_batch_size": 2, "workers": 0, **options})
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
    return data


def ids(batches: Iterator[Batch]) -> list[list[str]]:
    return [[sample.id for sample in batch.samples] for batch in batches]


def test_two_ranks_train_on_the_batches_of_one(processor: Processor) -> None:
    whole = list(few(processor, batch_size=4).train_dataloader())
    ranks = [list(few(processor, rank, 2).train_dataloader()) for rank in range(2)]
    assert len(whole) == len(ranks[0]) == len(ranks[1]) == 3
    for one, first, second in zip(whole, *ranks, strict=True):
        assert [s.id for s in one.samples] == [s.id for s in first.samples + second.samples]
        rows = [row[row >= 0].tolist() for batch in (first, second) for row in batch.labels]
        assert [row[row >= 0].tolist() for row in one.labels] == rows


@pytest.mark.parametrize("world", [1, 2, 3, 9])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_every_sample_is_evaluated_and_no_rank_has_less_to_do(
    processor: Processor, world: int, stage: str
) -> None:
    ranks = []
    for rank in range(world):
        data = few(processor, rank, world)
        loader = data.val_dataloader() if stage == "validate" else data.test_dataloader()
        ranks.append(
            [
                [(o.set_name, s.id) for o, s in zip(batch.metadata, batch.samples, strict=True)]
                for batch in loader
            ]
        )
    expected = [(f"{stage}_x", f"x{n}") for n in range(5)] + [(f"{stage}_y", f"y{n}") for n in range(2)]
    # In turns over the ranks: every sample once and in order, then some again so that no rank has less to do.
    turns = zip(*([key for batch in rank for key in batch] for rank in ranks), strict=True)
    seen = [key for turn in turns for key in turn]
    assert seen[:7] == expected
    assert seen[7:] == (expected * world)[: len(seen) - 7]
    assert len(seen) < 7 + world
    assert len({tuple(len(batch) for batch in rank) for rank in ranks}) == 1


def test_worker_processes_change_nothing(processor: Processor) -> None:
    alone, helped = (few(processor, workers=count) for count in (0, 2))
    for name in ("train_dataloader", "val_dataloader"):
        first, second = list(getattr(alone, name)()), list(getattr(helped, name)())
        assert ids(iter(first)) == ids(iter(second))
        assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(first, second, strict=True))


def test_the_length_of_an_epoch(processor: Processor) -> None:
    assert len(few(processor).train_dataloader()) == 6
    assert len(few(processor, samples_per_epoch=101).train_dataloader()) == 50
    with pytest.raises(ValueError, match="an epoch of 12 samples does not fill one batch of 16"):
        few(processor, batch_size=16).train_dataloader()


def test_a_missing_processor_is_told() -> None:
    with pytest.raises(ValueError, match=r"has no processor; give it `model\.processor`"):
        few(None).train_dataloader()


class Recorder(L.LightningModule):
    """Notes ids and answers of every batch that it trains on; saves a checkpoint in a hook after a step."""

    def __init__(self, hook: str = "", step: int = 0, path: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.hook, self.step, self.path = hook, step, path
        self.seen: list[tuple[int, list[str], list[int]]] = []

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        names = [sample.id for sample in batch.samples]
        self.seen.append((self.current_epoch, names, batch.labels.flatten().tolist()))
        return self.weight**2

    def validation_step(self, batch: Batch, _: int) -> None:
        """Nothing to evaluate."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def save(self, hook: str) -> None:
        if (hook, self.global_step) == (self.hook, self.step):
            self.trainer.save_checkpoint(self.path)

    def on_train_batch_start(self, *_: Any) -> None:
        self.save("on_train_batch_start")

    def on_train_batch_end(self, *_: Any) -> None:
        self.save("on_train_batch_end")

    def on_validation_end(self) -> None:
        self.save("on_validation_end")

    def on_train_epoch_end(self) -> None:
        self.save("on_train_epoch_end")


def fit(data: Few, model: Recorder, checkpoint: Path | None = None) -> Recorder:
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, data, ckpt_path=checkpoint)
    return model


@pytest.mark.parametrize(
    ("hook", "cut", "workers"),
    [
        ("on_train_batch_start", 7, 0),
        ("on_train_batch_end", 1, 0),
        ("on_train_batch_end", 5, 1),
        ("on_train_batch_end", 6, 1),
        ("on_train_batch_end", 8, 0),
        ("on_train_batch_end", 17, 1),
        ("on_validation_end", 6, 0),
        ("on_validation_end", 12, 1),
        ("on_train_epoch_end", 6, 1),
        ("on_train_epoch_end", 12, 0),
    ],
)
def test_a_resumed_run_sees_the_rest_and_nothing_twice(
    processor: Processor, tmp_path: Path, hook: str, cut: int, workers: int
) -> None:
    path = tmp_path / "cut.ckpt"
    whole = fit(Few(2, 2, workers=0, processor=processor), Recorder(hook, cut, path))
    assert len(whole.seen) == 18
    resumed = fit(Few(2, 2, workers=workers, processor=processor), Recorder(), path)
    assert resumed.seen == whole.seen[cut:]


def test_packed_batches_hold_the_samples_of_padded_ones(processor: Processor) -> None:
    padded, packed = (
        list(few(processor, batch_size=4, batching=kind).train_dataloader()) for kind in ("padded", "packed")
    )
    assert ids(iter(packed)) == ids(iter(padded))
    assert [batch.segment_ids is None for batch in padded] == [True] * 3
    for one, other in zip(padded, packed, strict=True):
        assert other.segment_ids is not None
        assert int(other.attention_mask.sum()) == int(one.attention_mask.sum())


def test_grouped_batches_are_of_like_length(processor: Processor) -> None:
    data = few(processor, batch_size=2, batching="grouped")
    batches = list(data.train_dataloader())
    assert len(batches) == 6
    assert all(batch.segment_ids is None for batch in batches)
    whole = list(few(processor, batch_size=2).train_dataloader())
    assert sorted(chain(*ids(iter(batches)))) == sorted(chain(*ids(iter(whole))))


class Where(MediaLoader):
    """Gives the number of the worker in which it was asked, -1 in the main process."""

    def __call__(self, media: Media) -> torch.Tensor:  # noqa: ARG002 - the signature of a loader
        info = torch.utils.data.get_worker_info()
        return torch.tensor(-1 if info is None else info.id)


def test_media_are_read_in_the_workers(processor: Processor) -> None:
    asked = Processor(processor.prompts, {"image": Where()})
    [batch, *_] = few(asked, batch_size=4, workers=1).train_dataloader()
    assert batch.media["image"].tolist() == [0] * 4
