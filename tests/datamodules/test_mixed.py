"""Images and clouds share batches as planned: their proportion, on any number of ranks, when resumed."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from datamodules.base import InstructionDataModule
from datamodules.clouds import CloudInstructions
from datamodules.examples import EvalSet, TrainSet
from datamodules.images import ImageInstructions
from datamodules.miniature.data import MiniatureClouds, MiniatureImages
from datamodules.mixed import MixedInstructions, Passes
from datamodules.sources import Source
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.sample import References, Sample

CONFIG = """
class_path: datamodules.mixed.MixedInstructions
init_args:
  images:
    class_path: datamodules.images.ImageInstructions
    init_args:
      root: PICTURES
      train:
        - {benchmark: coco_captioning, split: train2017, folder: seen/coco, weight: 3}
        - {benchmark: class_folder, split: train, folder: seen/classes}
      validate: [{benchmark: class_folder, split: val, folder: seen/classes, name: pictures, limit: 2}]
  clouds:
    class_path: datamodules.clouds.CloudInstructions
    init_args:
      root: ROOMS
      train: [{benchmark: scanqa, split: train, folder: seen}]
      validate: [{benchmark: scanqa, split: val, folder: seen, name: rooms, limit: 3, protocol: published}]
  batch_size: 8
  workers: 0
"""


def texts(name: str, count: int) -> list[Sample]:
    gold = References(("a", "b", "c"))
    return [Sample(f"{name}{number}", "captioning", name, {}, "", gold) for number in range(count)]


class Part(InstructionDataModule):
    """Training sets of some sizes and weights, an evaluation set."""

    def __init__(self, name: str, sizes: list[int], weights: list[float], **loading: Any) -> None:
        super().__init__(**loading)
        self.name, self.sizes, self.weights = name, sizes, weights

    def train_sets(self) -> list[TrainSet]:
        pairs = enumerate(zip(self.sizes, self.weights, strict=True))
        return [TrainSet(texts(f"{self.name}{place}-", *[size]), weight) for place, (size, weight) in pairs]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        return [EvalSet(f"{stage}-{self.name}", texts(self.name, 2))]


def mixed(
    processor: Processor | None = None, rank: int = 0, world: int = 1, **options: Any
) -> MixedInstructions:
    """Sets a and b of 6 and 2 images, c of 5 clouds."""
    images, clouds = Part("images", [6, 2], [1.0, 3.0]), Part("clouds", [5], [0.1])
    data = MixedInstructions(images, clouds, workers=0, processor=processor, **options)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
    return data


def drawn(data: InstructionDataModule, processor: Processor) -> list[str]:
    """Names of the samples of two epochs, sorted."""
    data.processor = processor
    loader = data.train_dataloader()
    found: list[str] = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        found += [name for batch in loader for name in names(batch)]
    return sorted(found)


def test_a_joint_training_sees_what_two_separate_ones_see(processor: Processor) -> None:
    # 6 x 1 + 2 x 1 and 5 x 2 samples: of 36 draws 16 are images (4 and 12, by weight), 20 are clouds.
    both = drawn(mixed(samples_per_epoch=36, batch_size=4, seed=3), processor)
    parts = [
        Part("images", [6, 2], [1.0, 3.0], samples_per_epoch=16, batch_size=4, seed=3, workers=0),
        Part("clouds", [5], [0.1], samples_per_epoch=20, batch_size=4, seed=3, workers=0),
    ]
    assert both == sorted(name for part in parts for name in drawn(part, processor))
    other = drawn(mixed(samples_per_epoch=36, batch_size=4, seed=4), processor)
    assert both != other


def names(batch: Batch) -> list[str]:
    return [sample.id for sample in batch.samples]


def test_a_configuration_becomes_batches_of_both(
    miniature_root: Path, few_rooms: Path, cloud_processor: Processor
) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(InstructionDataModule, "data")
    text = CONFIG.replace("PICTURES", str(miniature_root)).replace("ROOMS", str(few_rooms))
    data = parser.instantiate(parser.parse_object({"data": yaml.safe_load(text)})).data
    assert data.passes == Passes(1.0, 2.0), "the paper's"
    data.processor = cloud_processor
    asked = len(data.parts["clouds"].train_sets()[0].samples)
    batches = list(data.train_dataloader())
    assert len(batches) == (2 * 20 + 2 * asked) // 8
    trained = Counter(sample.benchmark for batch in batches for sample in batch.samples)
    total = 8 * len(batches)
    expected = {"coco_captioning": 0.75 * 40, "class_folder": 0.25 * 40, "scanqa": 2 * asked}
    for name, share in expected.items():
        assert abs(trained[name] - share * total / (40 + 2 * asked)) < 1
    assert sum(len(batch.media) == 2 for batch in batches) > len(batches) / 2, "batches mix modalities"
    [batch] = data.val_dataloader()
    named = [one.set_name for one in batch.metadata]
    assert list(zip(named, [item.protocol for item in batch.samples], strict=True)) == [
        *[("pictures", "standard")] * 2,
        *[("rooms", "published")] * 3,
    ]
    assert (len(batch.media["image"]), len(batch.media["cloud"])) == (2, 3)


def test_sixteen_slots_stay_sixteen(
    miniature_root: Path, few_rooms: Path, cloud_processor: Processor
) -> None:
    """Beside a picture of 400 slots a cloud takes no more room than its own, and padding is only at the end."""
    cloud_processor.prompts.slots["image"] = 400
    pictures = ImageInstructions(
        str(miniature_root), [Source("class_folder", "train", "seen/classes", limit=4)]
    )
    rooms = CloudInstructions(str(few_rooms), [Source("scanqa", "train", "seen", limit=4)])
    data = MixedInstructions(
        pictures, rooms, Passes(1, 1), batch_size=8, workers=0, processor=cloud_processor
    )
    try:
        [batch] = data.train_dataloader()
    finally:
        cloud_processor.prompts.slots["image"] = 4
    encode = cloud_processor.prompts.tokenizer.encode
    held = {
        name: Counter(rows.tolist()) for name, rows in ((key, at[:, 0]) for key, at in batch.slots.items())
    }
    for row, sample in enumerate(batch.samples):
        ids, real = batch.input_ids[row], batch.attention_mask[row].bool()
        assert real.tolist() == sorted(real.tolist(), reverse=True), "padded on the right alone"
        if "image" in sample.media:
            assert held["image"][row] == 400
            continue
        assert held["cloud"][row] == 16
        places = batch.slots["cloud"][batch.slots["cloud"][:, 0] == row][:, 1]
        assert places.tolist() == list(range(int(places[0]), int(places[0]) + 16))
        before = [cloud_processor.prompts.tokenizer.bos_id, *encode("### Human:"), *encode("<Pcl>")]
        after = [*encode("</Pcl>"), *encode(f" {sample.question}"), *encode("\n### Assistant:")]
        assert ids[: places[0]].tolist() == [item for item in before if item is not None]
        assert ids[places[-1] + 1 :][: len(after)].tolist() == after
        answer = int((batch.labels[row] >= 0).sum())
        assert int(real.sum()) == int(places[-1]) + 1 + len(after) + answer


@given(
    images=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=3),
    clouds=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=3),
    passes=st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([1.0, 3.0])),
)
def test_each_modality_has_its_passes_and_each_set_its_share(
    images: list[tuple[int, float]], clouds: list[tuple[int, float]], passes: tuple[float, float]
) -> None:
    parts = [Part(name, *map(list, zip(*sets, strict=True))) for name, sets in (("i", images), ("c", clouds))]  # type: ignore[arg-type]
    data = MixedInstructions(*parts, Passes(*passes))
    sets = data.train_sets()
    found = [sets[: len(images)], sets[len(images) :]]
    for mine, given_sets, times in zip(found, (images, clouds), passes, strict=True):
        samples = sum(size for size, _ in given_sets)
        assert sum(item.weight for item in mine) == pytest.approx(times * samples)
        assert [len(item.samples) for item in mine] == [size for size, _ in given_sets]
        ratios = {round(item.weight / weight, 6) for item, (_, weight) in zip(mine, given_sets, strict=True)}
        assert len(ratios) == 1
    total = sum(
        times * size for part, times in zip((images, clouds), passes, strict=True) for size, _ in part
    )
    assert data.default_epoch_size(sets) == round(total)


def test_an_epoch_goes_through_the_clouds_twice(processor: Processor) -> None:
    seen = Counter(
        name for batch in mixed(processor, batch_size=2).train_dataloader() for name in names(batch)
    )
    assert sum(seen.values()) == 8 + 2 * 5
    assert {count for name, count in seen.items() if name.startswith("clouds")} == {2}
    # Of 8 images the first set has a quarter, its weight being 1 of 4, the second set the rest.
    assert sum(count for name, count in seen.items() if name.startswith("images0")) == 2
    assert sum(count for name, count in seen.items() if name.startswith("images1")) == 6


def test_two_ranks_train_on_the_batches_of_one(processor: Processor) -> None:
    whole = [names(batch) for batch in mixed(processor, batch_size=6).train_dataloader()]
    halves = [list(mixed(processor, rank, 2, batch_size=3).train_dataloader()) for rank in range(2)]
    assert whole == [names(first) + names(second) for first, second in zip(*halves, strict=True)]
    again = [names(batch) for batch in mixed(processor, batch_size=6, seed=1).train_dataloader()]
    assert again != whole
    assert any(len({name[0] for name in batch}) == 2 for batch in whole), "batches mix"


def test_a_resumed_run_sees_the_rest_and_nothing_twice(processor: Processor, tmp_path: Path) -> None:
    class Seen(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen: list[list[str]] = []

        def training_step(self, batch: Batch, _: int) -> torch.Tensor:
            if self.global_step == 4:
                self.trainer.save_checkpoint(tmp_path / "cut.ckpt")
            self.seen.append(names(batch))
            return self.weight**2

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(checkpoint: Path | None = None) -> list[list[str]]:
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
        )
        images, clouds = Part("images", [6, 2], [1.0, 3.0]), Part("clouds", [5], [0.1])
        model = Seen()
        data = MixedInstructions(images, clouds, batch_size=6, workers=0, processor=processor)
        trainer.fit(model, data, ckpt_path=checkpoint)
        return model.seen

    whole = fit()
    assert len(whole) == 6
    assert fit(tmp_path / "cut.ckpt") == whole[4:]


def test_both_miniatures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    for kind in (MiniatureImages, MiniatureClouds):
        monkeypatch.setattr(kind, "prepare_data", lambda self: written.append(self.root))
    MixedInstructions(
        MiniatureImages(str(tmp_path / "a")), MiniatureClouds(str(tmp_path / "b"))
    ).prepare_data()
    assert written == [tmp_path / "a", tmp_path / "b"]


def test_samples_of_a_stage_are_those_of_both() -> None:
    assert {sample.benchmark for sample in mixed().samples_of("fit")} == {
        *("images0-", "images1-", "clouds0-"),
        *("images", "clouds"),
    }
    assert [sample.id for sample in mixed().samples_of("test")] == [
        "images0",
        "images1",
        "clouds0",
        "clouds1",
    ]


def test_what_has_no_effect_is_refused() -> None:
    good = Part("images", [1], [1.0])
    with pytest.raises(
        ValueError,
        match=r"data\.init_args\.clouds sets batch_size, seed, which has no effect .* under data\.init_args",
    ):
        MixedInstructions(good, CloudInstructions("root", batch_size=4, seed=1))
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(
            ValueError, match="passes through all modalities should be positive, found images"
        ):
            Passes(images=wrong)


def test_any_modalities_are_mixed_by_their_passes() -> None:
    one, two, three = (Part(name, [count], [1.0]) for name, count in (("a", 4), ("b", 6), ("c", 5)))
    data = MixedInstructions(one, two, Passes(1, 2, {"sounds": 3}), others={"sounds": three})
    assert [item.weight for item in data.train_sets()] == [4, 12, 15]
    assert data.default_epoch_size(data.train_sets()) == 31
    data = MixedInstructions(others={"sounds": three, "signals": two})
    assert [item.weight for item in data.train_sets()] == [5, 6]
    with pytest.raises(ValueError, match="two data modules or more, found images"):
        MixedInstructions(one)
    with pytest.raises(ValueError, match=r"passes\.others names smells"):
        MixedInstructions(one, two, Passes(others={"smells": 1.0}))
    with pytest.raises(ValueError, match=r"data\.init_args\.others\.rooms sets seed"):
        MixedInstructions(one, others={"rooms": CloudInstructions("root", seed=1)})
    with pytest.raises(
        ValueError, match=r"positive, found images 1\.0, clouds 2\.0 and others .'sounds': 0\.0"
    ):
        Passes(others={"sounds": 0.0})


def test_sets_of_one_name_are_refused() -> None:
    with pytest.raises(
        ValueError, match="images and clouds have test sources of the same name test-one; set `name`"
    ):
        MixedInstructions(Part("one", [1], [1.0]), Part("one", [1], [1.0])).eval_sets("test")


def test_missing_data_is_told_by_its_place_in_the_configuration(tmp_path: Path) -> None:
    source = Source("scanqa", "train", "seen")
    pictures = ImageInstructions(str(tmp_path / "nowhere"), [source])
    data = MixedInstructions(pictures, CloudInstructions(str(tmp_path)))
    with pytest.raises(ValueError, match=r"Set --data\.init_args\.images\.init_args\.root to the folder"):
        data.train_sets()
    with pytest.raises(ValueError, match=r"list sources under data\.init_args\.clouds\.init_args\.train"):
        data.parts["clouds"].train_sets()
    alone = CloudInstructions(str(tmp_path), [source])
    with pytest.raises(ValueError, match=r"Set --data\.init_args\.root to the folder"):
        alone.train_sets()
