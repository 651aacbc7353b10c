"""3D object detector: backbone, head, losses and proposals, saved to and loaded from a folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from octavius.encoders.detector.backbone import MinkResNet
from octavius.encoders.detector.fcaf3d import FCAF3DHead
from octavius.encoders.detector.losses import Truth, fcaf3d_losses, tr3d_losses
from octavius.encoders.detector.predictions import Predictions
from octavius.encoders.detector.proposals import Proposals, Suppression, chosen
from octavius.encoders.detector.tr3d import TR3DHead
from octavius.encoders.sparse.tensor import voxelise
from octavius.files import read_text
from octavius.folders import check_folder, saving_folder
from octavius.limits import NON_NEGATIVE_INT, POSITIVE_INT, POSITIVE_NUMBER, SIZE_RANGE
from octavius.presets import find_checkpoint

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Files in the folder of a detector."""

HeadName: TypeAlias = Literal["fcaf3d", "tr3d"]

PUBLISHED_WIDTHS: dict[HeadName, tuple[int, ...]] = {
    "fcaf3d": (64, 128, 256, 512),
    "tr3d": (64, 128, 128, 128),
}


@dataclass(frozen=True)
class Design:
    """Sizes of a detector; the defaults are the published ones.

    Attributes:
        voxel_size: edge of the finest voxels in metres.
        widths: channels of each stage of the backbone; null takes the published ones of the head.
        blocks: number of residual blocks of each stage.
        stem: channels of the backbone's stem.
        pool: whether the stem pools, which makes all levels coarser by a factor of 2.
        channels: channels of the features from which all levels predict.
        geometry: also input a point's position in its voxel and its height, which large voxels hide; the
            published networks have colours only.
        keep: FCAF3D: largest number of voxels per scene that a level keeps.
        skip: TR3D: number of the finest stages that do not predict.
        grown_from: TR3D: finest level at which voxels are generated where there is no point.
    """

    voxel_size: float = 0.01
    widths: tuple[int, ...] | None = None
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    stem: int = 64
    pool: bool = True
    channels: int = 128
    geometry: bool = False
    keep: int = 100_000
    skip: int = 1
    grown_from: int = 0

    def __post_init__(self) -> None:
        """Validates the numbers."""
        POSITIVE_NUMBER.check(voxel_size=self.voxel_size)
        SIZE_RANGE.check(widths=self.widths, blocks=self.blocks, stem=self.stem, channels=self.channels)
        POSITIVE_INT.check(keep=self.keep)
        NON_NEGATIVE_INT.check(skip=self.skip, grown_from=self.grown_from)


PUBLISHED = Design()


class Detector(nn.Module):
    """Backbone and head of a 3D object detector.

    Args:
        classes: class names.
        detector: the head.
        design: its sizes.
        class_levels: TR3D: level of each class, 0 for the finest, as
            `octavius.encoders.detector.assign.class_levels` computes it; needed for training only.

    Attributes:
        classes: as given.
        voxel_size: edge of the finest voxels in metres.
        nms: overlap measure of non-maximum suppression.
        level_spacings: spacing of each level's locations in metres, the finest first.
    """

    def __init__(
        self,
        classes: Sequence[str],
        detector: HeadName = "fcaf3d",
        design: Design = PUBLISHED,
        class_levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not classes or len({*classes}) < len(classes):
            raise ValueError(f"a detector needs classes of different names, found {[*classes]}")
        self.classes, self.detector, self.design = tuple(classes), detector, design
        self.voxel_size = design.voxel_size
        self.nms: Suppression = "3d"
        widths = design.widths or PUBLISHED_WIDTHS[detector]
        norm: Literal["instance", "batch"] = "instance" if detector == "fcaf3d" else "batch"
        # colours, and with `geometry` the position in the voxel (3) and the height (1)
        features = 7 if design.geometry else 3
        self.backbone = MinkResNet(features, widths, design.blocks, design.stem, design.pool, norm)
        strides = self.backbone.strides
        size, width = len(self.classes), design.channels
        self.head: FCAF3DHead | TR3DHead
        if detector == "fcaf3d":
            self.head = FCAF3DHead(size, widths, width, design.voxel_size, design.keep)
        elif detector == "tr3d":
            self.head = TR3DHead(size, widths, width, design.voxel_size, design.skip, design.grown_from)
            strides = strides[design.skip : -1]
        else:
            raise ValueError(f"a detector is 'fcaf3d' or 'tr3d', found {detector!r}")
        self.level_spacings = tuple(stride * design.voxel_size for stride in strides)
        self.class_levels = None if class_levels is None else tuple(class_levels)

    def forward(self, points: Tensor, batch: Tensor, clouds: int | None = None) -> Predictions:
        """Predictions at all locations of all levels.

        Args:
            points: (P, 6) x, y, z in metres, then red, green, blue in 0..1.
            batch: (P,) scene of each point, ascending.
            clouds: number of scenes; by default taken from the batch vector.

        Raises:
            ValueError: the points have no colours, or a cloud cannot be voxelized (see `voxelise`).
        """
        if points.dim() != 2 or points.shape[1] != 6:
            raise ValueError(f"expected points with colours (P, 6), found {tuple(points.shape)}")
        features = points[:, 3:]
        if self.design.geometry:
            cells = points[:, :3] / self.voxel_size
            features = torch.cat([features, cells - cells.floor(), points[:, 2:3]], dim=1)
        tensor = voxelise(points[:, :3], features, self.voxel_size, batch, clouds)
        found: Predictions = self.head(self.backbone(tensor))
        return found

    def losses(self, points: Tensor, batch: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """The losses of a batch of scenes by name, to be summed.

        Args:
            points: (P, 6) x, y, z in metres, then red, green, blue in 0..1.
            batch: (P,) scene of each point, ascending.
            truths: per scene the ground-truth boxes (M, 6) and the indices of their classes (M,).

        Raises:
            ValueError: TR3D has no class levels.
        """
        predictions = self(points, batch, len(truths))
        if self.detector == "fcaf3d":
            return fcaf3d_losses(predictions, truths, self.head.levels)
        if self.class_levels is None:
            raise ValueError(
                "training TR3D needs the level of each class: pass class_levels, as computed by "
                "octavius.encoders.detector.assign.class_levels"
            )
        return tr3d_losses(predictions, truths, torch.tensor(self.class_levels, device=points.device))

    @torch.no_grad()
    def propose(self, points: Tensor, batch: Tensor) -> list[Proposals]:
        """The detected boxes of each scene by descending score, in evaluation mode.

        Args:
            points: (P, 6) x, y, z in metres, then red, green, blue in 0..1.
            batch: (P,) scene of each point, ascending.
        """
        training = self.training
        self.eval()
        try:
            return chosen(self(points, batch), self.nms)
        finally:
            self.train(training)


def save_detector(model: Detector, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors` (half precision), with checksums that tie them together."""
    config = {
        "classes": model.classes,
        "detector": model.detector,
        "design": asdict(model.design),
        "class_levels": model.class_levels,
    }
    halves = {
        name: (value.detach().half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    with saving_folder(folder) as partial:
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(halves, partial / WEIGHTS)


def load_detector(name: str | Path) -> Detector:
    """Loads a detector from a folder, in single precision and evaluation mode.

    Args:
        name: path of the folder, or its name among the shipped checkpoints.

    Raises:
        ValueError: the folder or a file is missing, damaged, or the files do not match.
    """
    folder = find_checkpoint(name)
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise ValueError(
                f"{folder} holds no {file}; a detector's folder is made by "
                "`octavius fit --config pretrain/detector.yaml`"
            )
    try:
        config = json.loads(read_text(folder / CONFIG))
        sizes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in config["design"].items()
        }
        model = Detector(config["classes"], config["detector"], Design(**sizes), config["class_levels"])
        check_folder(folder)
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no detector that can be loaded: {error}") from None
    return model.eval()
