"""Columns and printed scores of the paper's Tables 1, 2 and 3, as data."""

from dataclasses import dataclass

SOURCE = "paper: Vicuna-13B, its own training data (another model, other data)"
"""Source shown next to every score of the paper, so that it is not mistaken for one of the evaluated model."""

LAMM = "LAMM JSON"
"""Name of the row for benchmarks read from LAMM's benchmark files."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        heading: the paper's heading, with the benchmark.
        benchmark: name of the set that fills it.
        keys: candidate metrics; the first one that the protocol computes is shown. The paper prints scores
            times 100.
    """

    heading: str
    benchmark: str
    keys: tuple[str, ...]


_ACCURACY = ("acc1", "acc1_any_mention", "acc1_name_in_text")

_RECALL = Column("Det. VOC Recall@0.5", "voc2012", ("recall50",))
_CHOICE = Column("VQA ScienceQA Acc@1", "scienceqa", _ACCURACY)
_FLICKR = Column("Cap. Flickr30k CIDEr", "flickr30k", ("cider",))
_CIFAR = Column("Cls. CIFAR-10 Acc@1", "cifar10", _ACCURACY)
_HAIR = Column("Facial hair Acc@1", "celeba_hair", _ACCURACY)
_SMILE = Column("Facial smile Acc@1", "celeba_smile", _ACCURACY)
_SCAN2CAP = Column("Cap. Scan2Cap CIDEr", "scan2cap", ("cider",))
_SCANQA = Column("VQA ScanQA CIDEr", "scanqa", ("cider",))
_SCANNET = Column("Cls. ScanNet Acc@1", "scannet", _ACCURACY)
_SHAPENET = Column("Cls. ShapeNet Acc@1 (ZS.)", "shapenet55", _ACCURACY)
_NR3D = Column("Cap. Nr3D CIDEr (ZS.)", "nr3d", ("cider",))

TABLES: dict[str, tuple[Column, ...]] = {
    "Table 1: images": (
        *(_RECALL, Column("Det. VOC Precision@0.5", "voc2012", ("precision50",))),
        *(_CHOICE, _FLICKR, _CIFAR, _HAIR, _SMILE),
    ),
    "Table 2: point clouds": (
        *(Column("Cap. Scan2Cap BLEU-1", "scan2cap", ("bleu1",)), _SCAN2CAP),
        *(Column("VQA ScanQA BLEU-1", "scanqa", ("bleu1",)), _SCANQA, _SCANNET, _SHAPENET),
        *(Column("Cap. Nr3D BLEU-1 (ZS.)", "nr3d", ("bleu1",)), _NR3D),
    ),
    "Table 3: images and point clouds": (
        *(_RECALL, _CHOICE, _FLICKR, _CIFAR, _HAIR, _SMILE),
        *(_SCAN2CAP, _SCANQA, _SCANNET, _SHAPENET, _NR3D),
    ),
}

_NONE = (None,) * 6

PAPER: dict[str, dict[str, tuple[float | None, ...]]] = {
    "Table 1: images": {
        "LAMM v2": (7.61, 5.95, 40.31, 0.21, 73.50, 58.04, 50.15),
        "LAMM v2, MoE": (39.04, 35.21, 46.95, 5.66, 65.40, 60.93, 59.82),
        "LLaVA": (None, None, 52.35, 30.75, 2.89, 12.50, 50.23),
        "LLaVA, MoE": (None, None, 55.58, 23.08, 41.00, 3.93, 52.17),
    },
    "Table 2: point clouds": {
        "Scan2Inst": (33.58, 35.11, 43.21, 168.21, 47.40, 19.75, 20.02, 16.19),
        "Scan2Inst, MoE": (35.94, 39.38, 44.24, 167.31, 48.80, 24.85, 21.16, 17.22),
    },
    "Table 3: images and point clouds": {
        "LAMM v2": (7.61, 40.31, 13.28, 73.50, 58.04, 50.15, *_NONE[:5]),
        "LAMM v2, MoE": (39.04, 46.95, 26.71, 65.40, 60.93, 59.82, *_NONE[:5]),
        "Scan2Inst": (*_NONE, 39.56, 162.14, 47.60, 19.75, 16.19),
        "Scan2Inst, MoE": (*_NONE, 39.38, 167.31, 43.40, 24.85, 17.22),
        "LAMM v2 + Scan2Inst": (2.64, 39.71, 0.04, 71.66, 42.47, 50.66, 19.76, 182.00, 38.80, 14.85, 8.26),
        "LAMM v2 + Scan2Inst, MoE": (
            34.30,
            35.80,
            10.06,
            56.86,
            51.52,
            54.22,
            33.29,
            181.44,
            47.20,
            21.10,
            17.22,
        ),
    },
}
"""The paper's scores by table and row, in the order of the columns. Its Tables 1 and 3 differ on Flickr30k."""

_BY_TASK = {
    "detection": "voc2012",
    "vqa": "scienceqa",
    "captioning": "flickr30k",
    "classification": "cifar10",
    "captioning3d": "scan2cap",
    "vqa3d": "scanqa",
    "classification3d": "scannet",
}
_BY_WORD = {"hair": "celeba_hair", "smile": "celeba_smile", "nr3d": "nr3d", "shapenet": "shapenet55"}


def row_and_benchmark(name: str, task: str) -> tuple[str, str]:
    """The row and the benchmark of a set in the tables.

    Names are those of the benchmark suite, or `part/task` in the miniature, whose sets each stand for the
    paper's benchmark of their task.

    >>> row_and_benchmark("scienceqa", "vqa"), row_and_benchmark("lamm_scienceqa", "vqa")
    (('', 'scienceqa'), ('LAMM JSON', 'scienceqa'))
    >>> row_and_benchmark("held_out/hair", "facial_attributes")
    ('held_out', 'celeba_hair')
    """
    part, _, rest = name.rpartition("/")
    if not part:
        bare = name.removeprefix("lamm_")
        return (LAMM if bare != name else ""), bare
    word = next((word for word in _BY_WORD if word in name), None)
    benchmark = _BY_TASK.get(task, rest) if word is None else _BY_WORD[word]
    return ("held_out" if part in _BY_WORD else part), benchmark
