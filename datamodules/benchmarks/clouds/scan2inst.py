"""LAMM's and Octavius' 3D instruction JSON, on stored features of objects (`read`) or on scans (`read_clouds`)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.clouds import scans
from datamodules.benchmarks.clouds.scans import Scans
from datamodules.benchmarks.dialogues import refuse_placeholders, refuse_unknown, turns_of
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import identity, plain_label, shown, take, take_text
from octavius.boxes3d import box_error
from octavius.instruction.sample import ClassName, Gold, Media, References, Region, Sample
from octavius.media.rois import FEATURES, box_of

LAYOUT = """\
  <root>/<split>.json     or <root>/meta_file/<split>.json, for example scan2inst_train, Caption_nr3d, VQA_scannet:
                          a list of {scene_id, object_id, object_name, task_type, conversations}
  <root>/lamm_scannet_tr3d/{ins_pc_feat,bbox}/<scene>/<id>-<name>.npy     the objects that a detector found
  <root>/lamm_scannet_gt/{ins_pc_feat,bbox}/<scene>/<id>-<name>.npy       the objects that are asked about
  <root>/shapenet_pcls/{ins_pc_feat,bbox}/<scene>/<id>-<name>.npy         both, for a split named after shapenet
"""

CLOUD_LAYOUT = f"""\
  <root>/<split>.json     or <root>/meta_file/<split>.json, a list of {{scene_id, object_id, object_name, task_type,
                          conversations}}
{scans.LAYOUT}"""

KEYS = ("id", "scene_id", "object_id", "object_name", "task_type", "conversations")
"""Keys that an item may have."""

TASKS = {"classification3d": "classification3d", "description3d": "captioning3d", "VQA3D": "vqa3d"}
"""Our tasks by the `task_type` of an item."""

Key: TypeAlias = tuple[str, str, str] | tuple[str]
"""What an item is about: the scene (scene,), or one object (scene, object number, object name)."""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per answer, with stored features of objects (modality `rois`) as the medium.

    A question about an object has the features of that object, a question about the scene those of all detected
    objects. The gold of a classification item is its `object_name`, not the sentence in its conversation; the
    candidates are the names of all classification items of the file.
    """
    file = need(root, LAYOUT, f"{split}.json", f"meta_file/{split}.json")
    # In ShapeNet every object is a scene of its own, so one folder has the features of both.
    single = "shapenet" in split
    scenes = DataFolder(
        need(root, LAYOUT, f"{'shapenet_pcls' if single else 'lamm_scannet_tr3d'}/{FEATURES}/")
    )
    things = DataFolder(need(root, LAYOUT, f"{'shapenet_pcls' if single else 'lamm_scannet_gt'}/{FEATURES}/"))

    def features(key: Key, _: int) -> Media:
        return _scene(scenes, key[0]) if len(key) == 1 else _object(things, *key)

    return samples_of(file, bad, "scan2inst", "rois", features)


def read_clouds(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per answer, on ScanNet's scans instead of stored features."""
    file = need(root, CLOUD_LAYOUT, f"{split}.json", f"meta_file/{split}.json")
    folders = Scans(root, CLOUD_LAYOUT)

    def cloud(key: Key, _: int) -> Media:
        if len(key) == 1:
            return folders.scan(key[0], objects=folders.annotated(key[0])).cloud
        scene, number, name = key
        scan = folders.scan(scene)
        if (label := scan.object(number).label) != plain_label(name):
            raise BadItemError(
                f"'object_name' of object {number} of {scene} is {shown(name)}, but its label in the scan is "
                f"{shown(label)}"
            )
        return scan.region(number)

    return samples_of(file, bad, "scan2inst_clouds", "cloud", cloud)


def samples_of(
    file: Path, bad: BadPolicy, benchmark: str, modality: str, find: Callable[[Key, int], Media]
) -> list[Sample]:
    """The samples of all items of a file.

    Args:
        file: the JSON file.
        bad: policy for bad items.
        benchmark: name given to the samples.
        modality: modality of the samples' only medium.
        find: returns the medium of a key, given the index of an item with that key. It is called once per key; if it
            raises, again for the next item with that key.

    Raises:
        ValueError: the file is malformed, or an item is bad (with `bad="error"`).
    """
    items = BadItems(bad, file)
    records = load_json(file, list)
    classified = filter(_is_named_classification, records)
    names = tuple(sorted({plain_label(take_text(record, "object_name")) for record in classified}))
    media: dict[Key, Media] = {}
    samples = []
    for index, record in enumerate(records):
        with items.guard(f"item {index}"):
            kind, scene = take_text(record, "task_type"), take_text(record, "scene_id")
            if kind not in TASKS:
                raise BadItemError(f"unknown task_type {shown(kind)}; known ones are {', '.join(TASKS)}")
            key: Key = (scene,)
            if kind != "VQA3D":
                key = (scene, _number(record), take_text(record, "object_name"))
            if key not in media:
                media[key] = find(key, index)
            samples.extend(_samples(index, record, benchmark, {modality: media[key]}, names))
    items.report()
    return samples


def _samples(
    index: int,
    record: dict[str, object],
    benchmark: str,
    media: Mapping[str, Media],
    names: tuple[str, ...],
) -> list[Sample]:
    turns, kind = turns_of(take(record, "conversations", list)), take(record, "task_type", str)
    refuse_unknown(record, KEYS, clouds=True)
    scene = take_text(record, "scene_id")
    if kind == "classification3d" and len(turns) > 1:
        raise BadItemError(f"a classification item must have one turn, found {len(turns)}")
    samples = []
    history: tuple[tuple[str, str], ...] = ()
    for number, (question, answer) in enumerate(turns):
        if not question:
            raise BadItemError(f"the question of turn {number} is empty")
        for said in (question, answer):
            refuse_placeholders(said, f"turn {number}", has_media=True)
        gold: Gold = References((answer,), scene)
        if kind == "classification3d":
            gold = ClassName(plain_label(take_text(record, "object_name")), names)
        key = f"{scene}-{index}-{number}"
        samples.append(Sample(key, TASKS[kind], benchmark, media, question, gold, history))
        history = (*history, (question, answer))
    return samples


def _scene(scenes: DataFolder, scene: str) -> Media:
    """Reference to the features of all objects detected in a scene; there may be none."""
    folder = scenes.file(scene)
    if not folder.is_dir():
        raise BadItemError(f"the scene {scene} has no folder of features in {scenes.path}")
    return Media(path=folder)


def _object(things: DataFolder, scene: str, number: str, name: str) -> Media:
    """Reference to the features of one object; file names have spaces or underscores in the object's name."""
    tried = [things.file(f"{scene}/{number}-{form}.npy") for form in (name, name.replace(" ", "_"))]
    file = next((file for file in tried if file.is_file()), None)
    if file is None:
        raise BadItemError(f"object {number} of {scene} has no feature file {tried[-1]}")
    try:
        box = box_of(file)
    except ValueError as error:
        raise BadItemError(str(error)) from None
    if said := box_error(box):
        raise BadItemError(f"the box of {file} is invalid: {said}")
    return Media(path=file, region=Region(number, box))


def _number(record: dict[str, object]) -> str:
    return identity(take(record, "object_id", object), "'object_id'")


def _is_named_classification(record: object) -> bool:
    """Whether this is a classification item with a name; malformed items are reported later, one by one."""
    if not isinstance(record, dict) or record.get("task_type") != "classification3d":
        return False
    return isinstance(record.get("object_name"), str) and bool(record["object_name"].strip())
