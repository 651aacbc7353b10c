"""A small reader of scenes, and scenes for it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch_geometric.data import Batch

from octavius.encoders.rois.object_as_scene import ObjectAsScene
from octavius.media.rois import StoredRoiLoader, rois_of

SMALL = {"width": 12, "queries": 3, "heads": 2, "hidden": 5}


def scenes(counts: Sequence[int], width: int = 7, seed: int = 0) -> Batch:
    """Scenes with that many random objects."""
    draw = torch.Generator().manual_seed(seed)
    items = [
        rois_of(torch.randn(count, width, generator=draw), torch.rand(count, 6, generator=draw) * 3)
        for count in counts
    ]
    return StoredRoiLoader().collate(items)


def reader(width_in: int = 7, width_out: int = 9, seed: int = 0, **changes: object) -> ObjectAsScene:
    """A small reader with all of its tensors random, so that none of them is without effect."""
    torch.manual_seed(seed)
    made = ObjectAsScene(width_in, width_out, **{**SMALL, **changes})  # type: ignore[arg-type]
    for tensor in made.parameters():
        nn.init.normal_(tensor, std=0.5)
    return made.eval()
