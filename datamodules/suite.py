"""The paper's benchmarks by name, as sources below one data root.

    <data root>/VOCdevkit/VOC2007, VOCdevkit/VOC2012
    <data root>/scienceqa, cifar10, flickr30k, celeba
    <data root>/scannet                 scans, with the annotations of ScanRefer, ScanQA and Nr3D
    <data root>/shapenet55
    <data root>/LAMM/2D_Benchmark       LAMM's benchmark JSON and its images
    <data root>/Octavius/3D_Benchmark   the published 3D benchmark JSON, and pickles of its objects' features

Each folder is laid out as its reader expects. `docs/data.md` says where to get the data.
"""

from datamodules.sources import Source
from octavius.suggestions import nearest

_LAMM, _OCTAVIUS = "LAMM/2D_Benchmark", "Octavius/3D_Benchmark"

_IMAGES = (
    # `val`, because the annotations of VOC2012's test split are not public.
    Source("voc_detection", "val", "VOCdevkit/VOC2012", name="voc2012"),
    Source("scienceqa", "test", "scienceqa"),
    Source("flickr30k", "test", "flickr30k"),
    Source("cifar10", "test", "cifar10"),
    Source("celeba_hair", "test", "celeba"),
    Source("celeba_smile", "test", "celeba"),
)
"""Zero-shot in the paper's Tables 1 and 3, in the order of their columns."""

_CLOUDS = (
    Source("scanrefer_captioning", "val", "scannet", name="scan2cap"),
    Source("scanqa", "val", "scannet"),
    Source("scannet_classification", "val", "scannet", name="scannet"),
    Source("shapenet_classification", "test", "shapenet55", name="shapenet55"),
    Source("nr3d_captioning", "val", "scannet", name="nr3d"),
)
"""Tables 2 and 3: the first three on the scans that the model is trained on, the last two zero-shot."""

_LAMM_IMAGES = (
    Source("lamm", "Detection_VOC2012", _LAMM, name="lamm_voc2012", protocol="published"),
    Source("lamm", "VQA_SQAimage", _LAMM, name="lamm_scienceqa", protocol="published"),
    Source("lamm", "Caption_flickr30k", _LAMM, name="lamm_flickr30k", protocol="published"),
    Source("lamm", "Classification_CIFAR10", _LAMM, name="lamm_cifar10", protocol="published"),
    Source(
        "lamm", "Facial_Classification_CelebA(Hair)", _LAMM, name="lamm_celeba_hair", protocol="published"
    ),
    Source(
        "lamm", "Facial_Classification_CelebA(Smile)", _LAMM, name="lamm_celeba_smile", protocol="published"
    ),
)

_LAMM_CLOUDS = (
    Source("scan2inst_pickle", "Caption_scannet", _OCTAVIUS, name="lamm_scan2cap", protocol="published"),
    Source("scan2inst_pickle", "VQA_scannet", _OCTAVIUS, name="lamm_scanqa", protocol="published"),
    Source(
        "scan2inst_pickle", "Classification_scannet", _OCTAVIUS, name="lamm_scannet", protocol="published"
    ),
    Source(
        "scan2inst_pickle", "Classification_shapenet", _OCTAVIUS, name="lamm_shapenet55", protocol="published"
    ),
    Source("scan2inst_pickle", "Caption_nr3d", _OCTAVIUS, name="lamm_nr3d", protocol="published"),
)
"""LAMM's files, from which the paper's numbers were computed, scored in the same way."""

_OTHERS = (
    Source("voc_detection", "test", "VOCdevkit/VOC2007", name="voc2007"),
    Source("coco_detection", "val2017", "coco"),
    Source("coco_captioning", "val2017", "coco"),
)
"""Not in the paper's tables."""

_ALL = (*_IMAGES, *_CLOUDS, *_LAMM_IMAGES, *_LAMM_CLOUDS, *_OTHERS)

SUITE: dict[str, tuple[Source, ...]] = {source.title: (source,) for source in _ALL} | {
    "2d": _IMAGES,
    "3d": _CLOUDS,
    "lamm_2d": _LAMM_IMAGES,
    "lamm_3d": _LAMM_CLOUDS,
}
"""Single benchmarks by name, and four groups. A source's name is also its name in tables."""


def sources(names: str) -> list[Source]:
    """The sources of comma-separated keys of `SUITE`, without duplicates, in order.

    >>> [source.title for source in sources("celeba_smile, 2d")][:2]
    ['celeba_smile', 'voc2012']

    Raises:
        ValueError: a name is unknown, or there is none.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in SUITE]
    if unknown or not wanted:
        found = f" with the unknown {unknown[0]!r}{nearest(unknown[0], SUITE)}" if unknown else ""
        raise ValueError(
            f"expected names of benchmarks with commas between them, found {names!r}{found}; known are "
            f"{', '.join(SUITE)}"
        )
    return list(dict.fromkeys(source for name in wanted for source in SUITE[name]))
