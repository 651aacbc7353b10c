"""Trains one step of an alignment on this process and saves its gradients."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from octavius.encoders.point_bert import PointBERT
from octavius.pretraining import points
from octavius.pretraining.points import PointAlignmentModule

CLASSES = ("bed", "chair", "table")
OBJECTS, ASKED, VIEWS = 8, 5, 2
SIZES = {"groups": 6, "group_size": 4, "width": 16, "depth": 1, "heads": 2, "token_width": 16}


class Views(Dataset[dict[str, Any]]):
    """Two flat pictures of every object."""

    def __len__(self) -> int:
        return OBJECTS

    def __getitem__(self, index: int) -> dict[str, Any]:
        grey = torch.full((VIEWS, 20, 20, 3), 25 * index, dtype=torch.uint8)
        grey[1, :10] = 0
        return {"object": index, "images": grey}


class Things(L.LightningDataModule):
    """Eight objects in one batch, of which each process has its run; five to be named, shared unevenly."""

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.points = torch.rand(OBJECTS, 16, 6, generator=draws)
        self.labels = torch.arange(OBJECTS) % 3

    def place(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world = self.place()
        rows = torch.arange(OBJECTS).view(world, -1)[rank]
        batch = {"points": self.points[rows], "label": self.labels[rows], "object": rows, "classes": CLASSES}
        batch |= {"colour": self.labels[rows], "mentioned": torch.full((len(rows),), -1)}
        batch |= {"text": [f"a {CLASSES[label]}" for label in self.labels[rows]]}
        return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        rank, world = self.place()
        rows = (torch.arange(-(-ASKED // world)) * world + rank) % ASKED
        batch = {"points": self.points[rows], "label": self.labels[rows], "classes": CLASSES}
        batch |= {"index": rows, "set": "things", "size_baseline": None}
        return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]

    def view_dataloader(self) -> DataLoader[Any]:
        rank, world = self.place()
        return DataLoader(Views(), 3, sampler=range(rank, OBJECTS, world))


class Step(PointAlignmentModule):
    """Keeps the gradients of its only step; nothing in it is drawn, and no norm depends on the batch."""

    gradients: dict[str, torch.Tensor]

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        self.gradients = {
            name: part.grad.clone() for name, part in self.named_parameters() if part.grad is not None
        }


def step(folder: Path, negatives: str, processes: int) -> dict[str, Any]:
    """Gradients, views and figures after one step over all processes."""
    torch.manual_seed(0)
    encoder = PointBERT(**SIZES, num_points=16, drop_path=0.0, projection_width=12)
    made = Step(
        encoder, str(folder / "clip"), save_to=str(folder / "out"), negatives=negatives, image_weight=0.5
    )
    made.encoder.eval()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(made, Things())
    return {"gradients": made.gradients, "views": made._views, "figures": vars(made.figures["things"])}


def one_view(module: PointAlignmentModule, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The first view of each object always, since processes draw theirs apart."""
    assert module._views is not None
    return {"text": module.sentences(batch["text"]), "image": module._views[batch["object"], 0]}


def run(folder: Path, processes: int) -> dict[str, Any]:
    """Both kinds of negatives; the bank's are drawn apart as well, so that only its figures compare."""
    points.augment = lambda clouds, *_: clouds
    Step._targets = one_view  # type: ignore[method-assign]
    return {negatives: step(folder, negatives, processes) for negatives in ("batch", "bank")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(run(Path(sys.argv[1]), 2), Path(sys.argv[1]) / f"found-{sys.argv[2]}.pt")
