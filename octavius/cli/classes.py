# ruff: noqa: F401
"""Imports the classes that configurations may name without their module, as in `class_path: MiniatureImages`.

jsonargparse finds short names among the imported classes only. The only place from which the miniature is imported.
"""

from collections.abc import Callable
from pathlib import Path

import datamodules.clouds
import datamodules.images
import datamodules.miniature.convention_data
import datamodules.miniature.data
import datamodules.miniature.pretraining.alignment
import datamodules.miniature.pretraining.language
import datamodules.miniature.pretraining.objects
import datamodules.miniature.pretraining.room_views
import datamodules.miniature.pretraining.rooms_language
import datamodules.miniature.pretraining.scene_boxes
import datamodules.mixed
import octavius.decoder.vision_language
import octavius.encoders.image
import octavius.encoders.precomputed
import octavius.pretraining.clip
import octavius.pretraining.views
from datamodules.miniature.files import build as write_images
from datamodules.miniature.rooms.files import build as write_rooms

WRITERS: dict[str, Callable[..., Path]] = {"miniature": write_images, "rooms": write_rooms}
"""Commands that write the files of the miniature."""
