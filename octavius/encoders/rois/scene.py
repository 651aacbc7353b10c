"""Steps 1 and 2 of Object-As-Scene: find the objects of a scene and encode each with Point-BERT.

Section 3.2.2 of the paper: a detector finds regions that may be objects (RoIs), Point-BERT encodes the points
in each; for a question about one object only that object's region is used. Both are frozen, so this is
computed once per scene before training, and cached; the published code likewise trains on stored features.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from octavius.boxes3d import enclosing
from octavius.encoders.base import UnreadableMediaError, silent
from octavius.encoders.feature_cache import FeatureCache, content, identity, key_of
from octavius.encoders.point_bert import CONFIG, WEIGHTS, load_point_bert, unit_sphere
from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.proposals import OVERLAP, Finder, source_of
from octavius.encoders.rois.roi_cache import BOX, CachedRoiLoader
from octavius.encoders.rois.roi_encoder import RoiEncoder, Use
from octavius.instruction.sample import Media
from octavius.limits import NON_NEGATIVE_NUMBER, SIZE_RANGE
from octavius.media.clouds import VERSION as CLOUDS
from octavius.media.clouds import CloudLoader
from octavius.media.crops import FEWEST, MARGIN, crop, inside, resampled
from octavius.presets import find_checkpoint

Features: TypeAlias = Literal["projected", "encoded"]

VERSION = 2
"""Incremented when the same weights and settings yield other features; part of the cache key."""

AT_ONCE = 16
"""Objects per forward pass of Point-BERT."""


class SceneEncoder(RoiEncoder):
    """Encoder of the modality `cloud`: cached Point-BERT features of a scene's objects, and a trained reader.

    A medium may be

    - a scene: the objects that `proposals` finds in it. Those with fewer than 32 points are dropped; of the
      others the best `rois` are used. There may be none, for which the reader has a learned vector.
    - a scene with a region: that object, with its own box. It needs at least one point.
    - an object that is its whole cloud (a region without a box, as in ShapeNet). Its box is the cloud's
      bounding box, in the cloud's own unit: such sets have no real sizes.
    """

    def __init__(
        self,
        points: str,
        proposals: str,
        rois: int = 32,
        features: Features = "projected",
        margin: float = MARGIN,
        cache: str = "data/roi-features",
        reader: ReaderSizes | None = None,
        use: Use = "all",
    ) -> None:
        """Loads the weights; no cloud is read.

        Args:
            points: folder of Point-BERT's weights: a path, or a name among the shipped checkpoints.
            proposals: source of a scene's boxes: `gold` for its annotated objects, a folder of files with any
                detector's boxes, or the folder of a detector; see `octavius.encoders.rois.proposals`.
            rois: largest number of objects per scene.
            features: `projected` into CLIP's space, or `encoded`, before the projection; the published code
                does not reveal which of them were stored.
            margin: metres added to a box on every side before it is cropped.
            cache: folder of the cached features; they are computed anew if the settings change.
            reader: sizes of the trained reader; those of the published model by default.
            use: what of an object reaches the reader: `all`, or for blind controls `boxes`, `features` or
                `nothing`.

        Raises:
            ValueError: the weights do not exist, or have no projection.
        """
        SIZE_RANGE.check(rois=rois)
        NON_NEGATIVE_NUMBER.check(margin=margin)
        point_bert, source = load_point_bert(points), source_of(proposals)
        width = point_bert.width if features == "encoded" else point_bert.projection_width
        if width is None:
            raise ValueError(
                f"the Point-BERT in {points} has no projection into CLIP's space; set features to 'encoded', or "
                "align it first with `octavius fit --config pretrain/points.yaml`"
            )
        super().__init__(width, reader, use)
        self.points, self.source = point_bert, source
        self.rois, self.features, self.margin = rois, features, margin
        facts = {
            "version": VERSION,
            "clouds": CLOUDS,
            "Point-BERT": f"files with the SHA-256 {content(find_checkpoint(points), CONFIG, WEIGHTS)}",
            "features": features,
            "boxes": source.facts(),
            "most objects of a scene": rois,
            "IoU above which the worse of two boxes goes": OVERLAP,
            "fewest points of a box that was found": FEWEST,
            "metres added around a box": margin,
            "of each cloud": "content of its file, pose, region, boxes told with it",
        }
        self.cache = FeatureCache(Path(cache).expanduser(), key_of(facts), source.facts_of)
        self.requires_grad_(False)
        self.eval()

    def loader(self) -> CachedRoiLoader:
        """Loads what `prepare` computed."""
        return CachedRoiLoader(self.cache, self.width)

    def train(self, mode: bool = True) -> "SceneEncoder":  # noqa: ARG002 - the signature of nn.Module
        """Stays in evaluation mode: the weights are frozen, including their dropout."""
        return super().train(False)

    def prepare(self, media: Iterable[Media], device: torch.device | str) -> None:
        """Computes the features of all media that are not cached; what is done survives an interruption.

        Args:
            media: scenes, regions of scenes, or single objects.
            device: device to compute on.

        Raises:
            UnreadableMediaError: clouds cannot be read, or objects have no points; raised after all others
                are done. The data module decides whether their samples are left out.
        """
        problems: list[str] = []
        scenes = self._missing(media, problems)
        if scenes:
            self.cache.open()
            self.to(device)
            self._fill(scenes, device, problems)
        if problems:
            raise UnreadableMediaError(
                f"{len(problems)} point clouds or objects in them cannot be encoded, the first: {problems[0]}. "
                "Replace the files, or remove their samples from the data"
            )

    def _missing(self, media: Iterable[Media], problems: list[str]) -> list[dict[Path, Media]]:
        """The media without features, by feature file, grouped by cloud so that each cloud is read once."""
        scenes: dict[str, dict[Path, Media]] = {}
        for file, medium in self.cache.missing(media, (None, self.width + BOX), problems).items():
            scenes.setdefault(repr((identity(medium), medium.pose)), {})[file] = medium
        return list(scenes.values())

    @torch.inference_mode()
    def _fill(self, scenes: list[dict[Path, Media]], device: torch.device | str, problems: list[str]) -> None:
        """Computes the features of all media of some clouds; errors are appended to `problems`."""
        find = self.source.finder(device)
        waiting: list[tuple[Path, Tensor, Tensor]] = []
        caption = f"encoding the objects of {len(scenes)} {'scene' if len(scenes) == 1 else 'scenes'}"
        for scene in tqdm(scenes, caption, unit=" scenes", disable=silent()):
            try:
                points = CloudLoader()(next(iter(scene.values()))).to(device)
            except ValueError as error:
                problems.append(str(error))
                continue
            for file, medium in scene.items():
                try:
                    waiting.append((file, *self._cut(medium, points, find)))
                except ValueError as error:
                    region = f", object {medium.region.object}" if medium.region else ""
                    problems.append(f"{medium.path or 'an array'}{region}: {error}")
                if sum(len(boxes) for _, boxes, _ in waiting) >= AT_ONCE:
                    self._encode(waiting)
                    waiting = []
        self._encode(waiting)

    def _cut(self, medium: Media, points: Tensor, find: Finder) -> tuple[Tensor, Tensor]:
        """Boxes (O, 6) and point crops (O, N, 6), scaled to the unit sphere, of the objects of a medium."""
        count, region = self.points.num_points, medium.region
        if region is None:
            pairs = self._held(find(medium, points), points)
        elif region.box is None:
            pairs = [(enclosing(points[:, :3]), resampled(points, count))]
        else:
            box = points.new_tensor(region.box)
            pairs = [(box, crop(points, region.box, self.margin, count=count, fewest=1))]
        if not pairs:
            return points.new_zeros(0, 6), points.new_zeros(0, count, 6)
        boxes, crops = zip(*pairs, strict=True)
        return torch.stack(boxes), unit_sphere(torch.stack(crops))

    def _held(self, boxes: Tensor, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The first `rois` boxes with enough points, and their crops."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for box in boxes:
            held = inside(points, box, self.margin)
            if len(held) >= FEWEST:
                pairs.append((box, resampled(points[held], self.points.num_points)))
            if len(pairs) == self.rois:
                break
        return pairs

    def _encode(self, waiting: list[tuple[Path, Tensor, Tensor]]) -> None:
        """Encodes crops and writes their features to the cache."""
        if not waiting:
            return
        parts = torch.cat([crops for _, _, crops in waiting]).split(AT_ONCE)
        features = torch.cat([self._features(part) for part in parts])
        if not features.isfinite().all():
            raise ValueError("Point-BERT gave features that are not finite; its weights are damaged")
        sizes = [len(boxes) for _, boxes, _ in waiting]
        for (file, boxes, _), mine in zip(waiting, features.split(sizes), strict=True):
            self.cache.write(file, torch.cat([mine, boxes], dim=1))

    def _features(self, crops: Tensor) -> Tensor:
        """Features (O, width) of crops (O, N, 6)."""
        if not len(crops):
            return crops.new_zeros(0, self.width)
        encoded = self.points(crops)
        return self.points.project(encoded) if self.features == "projected" else encoded
