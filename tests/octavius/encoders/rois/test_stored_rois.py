"""Stored features are read by one reader, whatever program stored them."""

from pathlib import Path

import numpy as np
import torch

from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.stored_rois import StoredRois
from octavius.instruction.sample import Media


def test_folders_of_features_become_vectors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    scene, empty = (tmp_path / "ins_pc_feat" / name for name in ("s", "t"))
    for folder in (scene, empty, tmp_path / "bbox" / "s"):
        folder.mkdir(parents=True)
    for name in ("1-chair", "2-table"):
        np.save(scene / f"{name}.npy", np.random.default_rng(0).normal(size=4).astype(np.float16))
        np.save(tmp_path / "bbox" / "s" / f"{name}.npy", np.random.default_rng(1).random((8, 3)))
    encoder = StoredRois(4, ReaderSizes(width=4, queries=3, heads=2))
    loader = encoder.loader()
    batch = loader.collate([loader(Media(path=path)) for path in (scene, empty, scene / "1-chair.npy")])
    assert batch.ptr.tolist() == [0, 2, 2, 3]
    reader = encoder.projector(6, normalise=True).eval()
    vectors = reader(encoder(batch))
    assert vectors.shape == (3, encoder.num_tokens, 6)
    torch.testing.assert_close(vectors[0], vectors[2])  # alike objects weigh as one
    assert not torch.allclose(vectors[1], vectors[2])
