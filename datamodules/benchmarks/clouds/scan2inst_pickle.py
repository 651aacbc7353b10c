"""Scan2Inst and its benchmark as published: pickles of features and boxes next to JSON files.

The tensors are decoded without torch's unpickler, which would run code of the file: they become NumPy arrays over
its bytes.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np

from datamodules.benchmarks.base import BadItemError, BadPolicy, need
from datamodules.benchmarks.clouds.scan2inst import Key, samples_of
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.pickle_machine import Function, Machine, UnsafePickleError
from datamodules.benchmarks.pickles import MOST_AXES, encode, load_pickle, refuse_call
from octavius.boxes3d import box_error, from_edges
from octavius.instruction.sample import Media, Region, Sample

LAYOUT = """\
  <root>/<split>.json       or <root>/meta_file/<split>.json, for example scan2inst_train, Caption_nr3d, VQA_scannet
  <root>/<split>.pickle     or <root>/meta_file/<split>.pickle: features and boxes of the items, in their order
"""

FEATURES = ("vision_embeds_3d_ref_list", "vision_embeds_3d_scene_prop_list")
"""Keys of the pickle with the features of the object that an item is about, and of all objects of its scene."""

BOXES = ("vision_pos_3d_ref_list", "vision_pos_3d_scene_prop_list")
"""The same for the boxes."""

COPIED = {"scene_id": "scene_id_list", "conversations": "caption_list"}
"""Keys of the JSON items whose values the pickle repeats, with its keys for them; used to verify the order."""

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""First two values of a file in the legacy format of `torch.save` (before zip archives)."""

STORAGES = {
    "torch.HalfStorage": "f2",
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
}
"""Storage classes of tensors and their NumPy types."""


def _storage(_machine: Machine, content: Any) -> np.ndarray:
    """The values (N,) of a tensor, which torch pickles as bytes in `torch.save`'s legacy format.

    These bytes are a sequence of pickles (magic number, version, platform, storage, keys) followed by the raw
    values.
    """
    if type(content) is not bytes:
        raise UnsafePickleError("the content of a tensor is not bytes")
    inner = Machine(content, dict.fromkeys(STORAGES, refuse_call), _persistent)
    if (inner.load(), inner.load()) != (MAGIC, PROTOCOL):
        raise UnsafePickleError("a tensor is not in the legacy format of torch.save")
    # The last of these lists the keys of the storages that follow, of which there is one.
    platform, storage, _ = inner.load(), inner.load(), inner.load()
    if type(platform) is not dict or platform.get("little_endian") is not True:
        raise UnsafePickleError("a tensor was not stored in little-endian byte order")
    if type(storage) is not tuple:
        raise UnsafePickleError("the content of a tensor is not a storage of numbers")
    kind, count = storage
    dtype = np.dtype("<" + kind)
    if inner.number("<q") != count:
        raise UnsafePickleError("the storage of a tensor has another length than the tensor says")
    return np.frombuffer(inner.take(count * dtype.itemsize), dtype)


def _persistent(identity: Any) -> tuple[str, int]:
    """Type and length of a storage, from torch's persistent id ("storage", class, key, device, length, ...)."""
    if type(identity) is not tuple or len(identity) < 5 or identity[0] != "storage":
        raise UnsafePickleError("the content of a tensor is not a storage of numbers")
    kind, count = STORAGES.get(getattr(identity[1], "key", "")), identity[4]
    if kind is None or type(count) is not int or count < 0:
        raise UnsafePickleError("the content of a tensor is not a storage of numbers")
    return kind, count


def _tensor_of(
    _machine: Machine, storage: Any, offset: Any, size: Any, stride: Any, *_: object
) -> np.ndarray:
    """Replaces `torch._utils._rebuild_tensor_v2`: the tensor as an array, a contiguous view of its storage."""
    sizes = size if type(size) is tuple else ()
    valid = all(type(number) is int and number >= 0 for number in (offset, *sizes))
    if type(storage) is not np.ndarray or storage.ndim != 1 or type(size) is not tuple or not valid:
        raise UnsafePickleError("the size of a tensor is malformed")
    expected = tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))
    malformed = type(stride) is not tuple or len(stride) != len(size)
    count = math.prod(size)
    # The stride of an axis of length 1 is arbitrary.
    if malformed or (count and any(n > 1 and s != e for n, s, e in zip(size, stride, expected, strict=True))):
        raise UnsafePickleError("a tensor is not contiguous")
    if len(size) > MOST_AXES or offset + count > len(storage):
        raise UnsafePickleError("a tensor reaches beyond its storage")
    return storage[offset : offset + count].reshape(size)


def _no_hooks(_machine: Machine) -> dict[str, Any]:
    """Replaces `collections.OrderedDict`, which a tensor's pickle calls for its backward hooks; always empty."""
    return {}


TENSORS: Mapping[str, Function] = {
    "torch._utils._rebuild_tensor_v2": _tensor_of,
    "torch.storage._load_from_bytes": _storage,
    "collections.OrderedDict": _no_hooks,
    "_codecs.encode": encode,
}
"""Globals that a pickle of tensors may name, and the functions called instead."""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per answer, as in `scan2inst.read`; the medium `rois` is an array (O, width + 6).

    Each row holds an object's features, then centre and size of its box in metres. A question about an object
    gets that object alone, a question about the scene all detected objects, which may be none.
    """
    file = need(root, LAYOUT, f"{split}.json", f"meta_file/{split}.json")
    stored = need(root, LAYOUT, f"{split}.pickle", f"meta_file/{split}.pickle")
    lists = _lists(stored, load_json(file, list))

    # Items about one scene share its tensors, as the memo of the pickle refers to one object; so they share an array.
    scenes: dict[tuple[int, int], np.ndarray] = {}

    def rois(key: Key, index: int) -> Media:
        if len(key) == 1:
            features, edges = lists[FEATURES[1]][index], lists[BOXES[1]][index]
            if (id(features), id(edges)) not in scenes:
                scenes[id(features), id(edges)] = _rows(_numbers(features), _numbers(edges))
            return Media(array=scenes[id(features), id(edges)])
        return _object(lists[FEATURES[0]][index], lists[BOXES[0]][index], key[1])

    return samples_of(file, bad, "scan2inst_pickle", "rois", rois)


def _lists(file: Path, records: list[Any]) -> dict[str, list[Any]]:
    """The lists of the pickle by key; verifies that they are aligned with the items of the JSON file."""
    content = load_pickle(file, TENSORS)
    lists = {}
    for key in (*FEATURES, *BOXES, *COPIED.values()):
        value = content.get(key)
        if not isinstance(value, list) or len(value) != len(records):
            found = f"{len(value)} entries" if isinstance(value, list) else f"the keys {sorted(content)}"
            raise ValueError(
                f"{file}: expected a list '{key}' of {len(records)} entries, one per item of the JSON file, found "
                f"{found}; take both files of one release"
            )
        lists[key] = value
    for index, record in enumerate(records):
        values = [record.get(key) if isinstance(record, dict) else None for key in COPIED]
        if not all(map(_same, values, (lists[name][index] for name in COPIED.values()))):
            raise ValueError(
                f"{file}: item {index} differs from item {index} of the JSON file; take both files of one release"
            )
    return lists


def _same(value: Any, stored: Any) -> bool:
    """Whether a value of the JSON file equals that of the pickle, which may also hold arrays or contain itself."""
    try:
        return bool(value == stored)
    except (ValueError, RecursionError):
        return False


def _object(feature: Any, edges: Any, number: str) -> Media:
    """Reference to the features of one object."""
    row = _rows(_numbers(feature).reshape(1, -1), _numbers(edges).reshape(1, -1))
    x, y, z, dx, dy, dz = (float(value) for value in row[0, -6:])
    if said := box_error((x, y, z, dx, dy, dz)):
        raise BadItemError(f"the box of object {number} is invalid: {said}")
    return Media(array=row, region=Region(number, (x, y, z, dx, dy, dz)))


def _rows(features: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Rows (O, width + 6): features, then boxes, converted from corners to centre and size; float32."""
    if features.ndim != 2 or edges.shape != (len(features), 6):
        raise BadItemError(
            f"expected features (O, width) and corners (O, 6), found {[*features.shape]} and {[*edges.shape]}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # of corners that are not finite, or too far apart
        rows = np.concatenate([features, from_edges(edges)], axis=1)
    if not np.isfinite(rows).all():
        raise BadItemError("its features or boxes hold numbers that are not finite")
    return rows


def _numbers(value: Any) -> np.ndarray:
    """The values of a tensor in single precision."""
    if not isinstance(value, np.ndarray):
        raise BadItemError(f"expected a tensor of features or corners, found {short(value):.60}")
    with np.errstate(over="ignore"):  # infinities are reported by `_rows`
        return value.astype(np.float32)
