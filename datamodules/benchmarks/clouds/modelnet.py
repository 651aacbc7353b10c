"""Object classification from class folders of point clouds, as ModelNet40 is distributed."""

from pathlib import Path
from typing import Literal

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, need
from datamodules.benchmarks.clouds.cloud_files import check_cloud
from datamodules.benchmarks.values import plain_label, printable, text
from octavius.instruction.sample import ClassName, Media, Region, Sample
from octavius.media.clouds import Y_UP

LAYOUT = """\
  <root>/<class_name>/<split>/*.npy     (P, 3), or with colours (P, 6); <split> is train or test
"""


def read(root: Path, split: str, bad: BadPolicy = "error", up: Literal["y", "z"] = "z") -> list[Sample]:
    """One sample per cloud (P, 3) or (P, 6); the candidates are the names of all class folders, as plain labels.

    Args:
        root: folder that holds the class folders.
        split: subfolder of each class folder.
        bad: policy for an empty class folder (usually an incomplete copy) and for a file that is not a cloud.
        up: axis that points up. ModelNet's meshes have z up, its resampled clouds with normals have y up.
    """
    classes = sorted(folder.parent.name for folder in root.glob(f"*/{split}/"))
    if not classes:
        need(root, LAYOUT, f"<class_name>/{split}/")
    items = BadItems(bad, root)
    files: dict[str, list[Path]] = {}
    for name in classes:
        with items.guard(f"class folder '{printable(name)}'"):
            text(name, "its name, which is that of the class,")
            found = sorted((root / name / split).glob("*.npy"))
            if not found:
                raise BadItemError(f"expected clouds (.npy) in {root / name / split}, found none")
            files[name] = found
    names = {name: plain_label(name) for name in files}
    vocabulary = tuple(sorted(set(names.values())))
    samples = []
    for name, found in files.items():
        for file in found:
            key = printable(f"{name}/{file.name}")
            pose = Y_UP if up == "y" else None
            media = {"cloud": Media(path=file, pose=pose, region=Region(key, None))}
            gold = ClassName(names[name], vocabulary)
            with items.guard(f"the object {key}"):
                check_cloud(file)
                samples.append(Sample(key, "classification3d", "modelnet_classification", media, "", gold))
    items.report()
    return samples
