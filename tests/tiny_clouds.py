"""A tiny point encoder and a tiny detector with random weights, for tests of point clouds."""

from pathlib import Path

import torch

from octavius.encoders.detector.detector import Design, Detector, save_detector
from octavius.encoders.point_bert import PointBERT, save_point_bert


def write_cloud_models(folder: Path) -> Path:
    """A Point-BERT in `points` and a TR3D in `detector`: the shipped ones in little."""
    torch.manual_seed(0)
    sizes = {"groups": 4, "group_size": 4, "width": 8, "depth": 1, "heads": 2, "token_width": 4}
    save_point_bert(PointBERT(num_points=40, projection_width=5, **sizes), folder / "points")
    design = Design(voxel_size=0.25, widths=(2, 2, 2, 2), blocks=(1, 1, 1, 1), stem=2, pool=False, channels=2)
    save_detector(Detector(("chair", "table"), "tr3d", design), folder / "detector")
    return folder
