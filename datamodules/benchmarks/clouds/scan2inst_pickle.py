"""The published pickles of Scan2Inst and its benchmark, with their JSON, come in; samples on arrays go out."""

from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.benchmarks.base import BadItemError, BadPolicy, load_json, need
from datamodules.benchmarks.clouds.scan2inst import Key, samples_of
from datamodules.benchmarks.pickles import load_pickle
from octavius.boxes3d import from_edges, problem
from octavius.instruction.sample import Media, Region, Sample

LAYOUT = """\
  <root>/<split>.json       or <root>/meta_file/<split>.json, for example scan2inst_train, Caption_nr3d, VQA_scannet
  <root>/<split>.pickle     or <root>/meta_file/<split>.pickle: features and boxes of the items, in their order
"""

FEATURES = ("vision_embeds_3d_ref_list", "vision_embeds_3d_scene_prop_list")
BOXES = ("vision_pos_3d_ref_list", "vision_pos_3d_scene_prop_list")
SAID = {"scene_id": "scene_id_list", "conversations": "caption_list"}


def _storage(content: bytes) -> Any:
    """The numbers of a tensor, which torch pickles as a file within the file."""
    return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


TENSORS: Mapping[str, Any] = {
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch.storage._load_from_bytes": _storage,
    "collections.OrderedDict": OrderedDict,
}
"""What a pickle of tensors names, and what it gets."""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample for every answer, as of the folders of features; the medium `rois` is an array (O, width + 6).

    Behind the features of each object stand centre and size of its box, in metres. A question about one object
    takes that object alone, one about the scene all that a detector found, which may be none.
    """
    file = need(root, LAYOUT, f"{split}.json", f"meta_file/{split}.json")
    stored = need(root, LAYOUT, f"{split}.pickle", f"meta_file/{split}.pickle")
    lists = _lists(stored, load_json(file, list))

    def rois(key: Key, place: int) -> Media:
        if len(key) == 1:
            return Media(array=_rows(lists[FEATURES[1]][place], lists[BOXES[1]][place]))
        return _object(lists[FEATURES[0]][place], lists[BOXES[0]][place], key[1])

    return samples_of(file, bad, "scan2inst_pickle", "rois", rois)


def _lists(file: Path, records: list[Any]) -> dict[str, list[Any]]:
    """The lists of the pickle, each with an entry for every item of the JSON, which are the same items."""
    content = load_pickle(file, TENSORS)
    lists = {}
    for key in (*FEATURES, *BOXES, *SAID.values()):
        value = content.get(key)
        if not isinstance(value, list) or len(value) != len(records):
            found = f"{len(value)} entries" if isinstance(value, list) else f"the keys {sorted(content)}"
            raise ValueError(
                f"{file}: expected a list '{key}' of {len(records)} entries, as many as its JSON has items, found "
                f"{found}; take both files of one release"
            )
        lists[key] = value
    for place, record in enumerate(records):
        said = {key: record.get(key) if isinstance(record, dict) else None for key in SAID}
        if said != {key: lists[name][place] for key, name in SAID.items()}:
            raise ValueError(
                f"{file}: its item {place} is another one than in its JSON; take both files of one release"
            )
    return lists


def _object(feature: Any, edges: Any, number: str) -> Media:
    """The reference to one object."""
    row = _rows(_tensor(feature).reshape(1, -1), _tensor(edges).reshape(1, -1))
    x, y, z, dx, dy, dz = (float(value) for value in row[0, -6:])
    if said := problem((x, y, z, dx, dy, dz)):
        raise BadItemError(f"the box of object {number} is wrong: {said}")
    return Media(array=row, region=Region(number, (x, y, z, dx, dy, dz)))


def _rows(features: Any, edges: Any) -> np.ndarray:
    """Features (O, width), then centre and size (O, 6) in place of the lowest and highest corner."""
    features, edges = _tensor(features), _tensor(edges)
    if features.ndim != 2 or edges.shape != (len(features), 6):
        raise BadItemError(
            f"expected features (O, width) and corners (O, 6), found {[*features.shape]} and {[*edges.shape]}"
        )
    rows = torch.cat([features, from_edges(edges)], dim=1)
    if not torch.isfinite(rows).all():
        raise BadItemError("its features or boxes hold numbers that are not finite")
    return rows.numpy()


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise BadItemError(f"expected a tensor of features or corners, found {value!r:.60}")
    return value.float()
