"""Object classification on ShapeNet55, from its lists of objects and one point cloud per object."""

from pathlib import Path

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.clouds.cloud_files import check_cloud
from datamodules.benchmarks.documents import load_json, read_lines
from datamodules.benchmarks.values import shown, take_text
from octavius.instruction.sample import ClassName, Media, Region, Sample
from octavius.media.clouds import Y_UP

LAYOUT = """\
  <root>/shapenet-55/<split>.txt             lines <synset>-<model>.npy; or in <root>/ShapeNet-55
  <root>/shapenet_pc/<synset>-<model>.npy    (8192, 3), y up; or <root>/shapenet-55/shapenet_pc
  <root>/shapenet_synset_dict.json           synset to name; or taxonomy.json, also in <root>/shapenet-55
"""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per object of the split; the candidates are the names of all synsets in its list.

    The object is the whole cloud, rotated from y up to z up. The clouds are normalized, not in metres.
    """
    lists = need(root, LAYOUT, f"shapenet-55/{split}.txt", f"ShapeNet-55/{split}.txt")
    clouds = DataFolder(need(root, LAYOUT, "shapenet_pc/", "shapenet-55/shapenet_pc/"))
    known = _names(root)
    items = BadItems(bad, lists)
    found: list[tuple[str, str]] = []
    for number, line in read_lines(lists):
        with items.guard(f"line {number}"):
            synset, _, model = line.removesuffix(".npy").partition("-")
            if not line.endswith(".npy") or not model:
                raise BadItemError(f"expected <synset>-<model>.npy, found {shown(line)}")
            if synset not in known:
                raise BadItemError(f"the synset {shown(synset)} has no name")
            found.append((line, known[synset]))
    names = tuple(sorted({name for _, name in found}))
    samples = []
    for line, name in found:
        with items.guard(f"the object {line}"):
            key = line.removesuffix(".npy")
            file = clouds.file(line)
            check_cloud(file)
            media = {"cloud": Media(path=file, pose=Y_UP, region=Region(key, None))}
            gold = ClassName(name, names)
            samples.append(Sample(key, "classification3d", "shapenet_classification", media, "", gold))
    items.report()
    return samples


def _names(root: Path) -> dict[str, str]:
    """Names of the synsets: the first if the taxonomy lists several, separated by commas."""
    file = need(root, LAYOUT, "shapenet_synset_dict.json", "taxonomy.json", "shapenet-55/taxonomy.json")
    try:
        if file.name == "taxonomy.json":
            records = load_json(file, list)
            pairs = [(take_text(record, "synsetId"), take_text(record, "name")) for record in records]
        else:
            content = load_json(file, dict)
            pairs = [(synset, take_text(content, synset)) for synset in content]
    except BadItemError as error:
        raise ValueError(f"{file}: {error}; copy the official file again") from None
    return {synset: name.split(",")[0].strip() for synset, name in pairs}
