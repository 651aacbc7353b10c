"""Writes the configuration of a tiny CLIP to a folder."""

from pathlib import Path

from octavius.encoders.image import CONFIG

MODEL = """{"model_cfg": {"embed_dim": 12, "custom_text": true,
  "vision_cfg": {"image_size": %d, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16,
                 "pool_type": "avg"},
  "text_cfg": {"context_length": 10, "vocab_size": %d, "width": 16, "heads": 2, "layers": 2,
               "pool_type": "eos", "eos_id": 2}},
 "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}"""


def write_config(folder: Path, pixels: int, words: int) -> Path:
    """Makes the folder of a CLIP for pictures of so many pixels along a side and so many words."""
    folder.mkdir()
    (folder / CONFIG).write_text(MODEL % (pixels, words))
    return folder
