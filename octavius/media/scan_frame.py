"""Axis alignment of ScanNet's scans, from their information files."""

from pathlib import Path

import numpy as np

from octavius.files import read_text
from octavius.instruction.sample import Pose

MESH, INFO = "_vh_clean_2.ply", ".txt"
"""Suffixes of a scan's mesh and of its information file, after the name of the scan."""


def info_beside(cloud: Path) -> Path | None:
    """The information file next to a scan's mesh; None if there is none or the file is not such a mesh."""
    info = cloud.with_name(cloud.name.removesuffix(MESH) + INFO)
    return info if cloud.name.endswith(MESH) and info.is_file() else None


def axis_alignment(info: Path) -> Pose | None:
    """The alignment in an information file; None if it has none, as those of test scans.

    Raises:
        ValueError: the file is not text, or the alignment is not a rigid motion.
    """
    try:
        lines = read_text(info, "utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{info} is not text in UTF-8 at byte {error.start}; copy it again") from None
    pairs = [line.partition("=") for line in lines]
    texts = [text for key, _, text in pairs if key.strip() == "axisAlignment"]
    if not texts:
        return None
    try:
        numbers = [float(word) for word in texts[-1].split()]
    except ValueError as error:
        raise ValueError(f"the axisAlignment in {info.name} is not 16 numbers: {error}") from None
    if len(numbers) != 16:
        raise ValueError(f"the axisAlignment in {info.name} is not 16 numbers, found {len(numbers)}")
    matrix = np.array(numbers).reshape(4, 4)
    turn = matrix[:3, :3]
    rigid = np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0
    if not rigid or not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise ValueError(f"the axisAlignment in {info.name} is no rigid motion: {texts[-1].strip()[:80]}")
    rows = [tuple(row) for row in matrix.tolist()]
    return tuple(rows)
