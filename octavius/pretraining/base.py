"""Base class for training open_clip models: optimizer, schedule, and the folder of the trained weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import lightning
import open_clip
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from open_clip.pos_embed import get_2d_sincos_pos_embed
from open_clip.transformer import VisionTransformer
from safetensors.torch import save_file
from torch import Tensor, nn

from octavius.encoders.image import CONFIG, WEIGHTS
from octavius.files import read_text
from octavius.folders import check_folder, saving_folder
from octavius.limits import FRACTION, NON_NEGATIVE_INT, NON_NEGATIVE_NUMBER, POSITIVE_NUMBER
from octavius.presets import find_checkpoint
from octavius.pretraining.optimization import decay_groups, trapezoid

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
"""Files of the tokenizer, in a folder that has its own; they are copied with the weights."""


class ClipTraining(lightning.LightningModule):
    """Trains an open_clip model that a folder's configuration describes.

    Fitting starts from random weights; `validate` scores the weights in the folder.

    Args:
        model: folder of the model with `open_clip_config.json` and, for `validate`, its weights: a path, or a
            name among the shipped checkpoints.
        save_to: folder to which the trained model is written.
        save_every: number of steps between intermediate saves; 0 saves at the end only.
        lr: peak learning rate.
        warmup: fraction of the steps for the linear warm-up.
        decay: fraction of the steps, at the end, for the cosine decay to zero.
        weight_decay: weight decay of matrices; vectors have none.
        preset: preset that trains the weights, for the error if there are none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        save_to: str,
        save_every: int,
        lr: float,
        warmup: float,
        decay: float,
        weight_decay: float,
        preset: str,
    ) -> None:
        super().__init__()
        NON_NEGATIVE_INT.check(save_every=save_every)
        POSITIVE_NUMBER.check(lr=lr)
        FRACTION.check(warmup=warmup, decay=decay)
        NON_NEGATIVE_NUMBER.check(weight_decay=weight_decay)
        self.folder, self.save_to, self.save_every = find_checkpoint(model), Path(save_to), save_every
        self.lr, self.warmup, self.decay, self.weight_decay = lr, warmup, decay, weight_decay
        self.preset = preset
        self.clip = open_clip.create_model(f"local-dir:{self.folder}", load_weights=False)
        if isinstance(self.clip.visual, VisionTransformer):
            init_positions(self.clip.visual)
        pixels = json.loads(read_text(self.folder / CONFIG))["preprocess_cfg"]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(pixels[name]).view(3, 1, 1), persistent=False)

    def setup(self, stage: str) -> None:
        """Loads the folder's weights unless fitting.

        Raises:
            ValueError: there are none.
        """
        if stage != "fit":
            if not (self.folder / WEIGHTS).is_file():
                raise ValueError(
                    f"expected the weights {WEIGHTS} in {self.folder}, found none; "
                    f"train them with `octavius fit --config {self.preset}`"
                )
            check_folder(self.folder)
            open_clip.load_checkpoint(self.clip, str(self.folder / WEIGHTS))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; linear warm-up, constant rate, and cosine decay to zero over the last `decay` of the steps."""
        optimizer = torch.optim.AdamW(
            decay_groups(self.parameters()),
            lr=self.lr,
            betas=(0.9, 0.98),
            weight_decay=self.weight_decay,
            fused=True,
        )
        return trapezoid(optimizer, self.trainer.estimated_stepping_batches, self.warmup, self.decay)

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        """Clips gradients here, because Lightning refuses to do it for a fused optimizer."""
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)

    def on_train_batch_end(self, *_: Any) -> None:
        """Saves the weights every `save_every` steps."""
        if self.save_every and self.global_step % self.save_every == 0:
            self.save()

    def on_fit_end(self) -> None:
        """Saves the trained model."""
        self.save()

    def save(self) -> None:
        """Writes configuration, tokenizer and weights (half precision)."""
        if not self.trainer.is_global_zero:
            return
        halves = {
            name: (value.detach().half() if value.is_floating_point() else value).contiguous()
            for name, value in self.clip.state_dict().items()
        }
        with saving_folder(self.save_to) as partial:
            for name in (CONFIG, *TOKENIZER):
                if (self.folder / name).is_file():
                    shutil.copyfile(self.folder / name, partial / name)
            save_file(halves, partial / WEIGHTS)


def init_positions(tower: VisionTransformer) -> None:
    """Initializes a vision tower's positional embedding with 2D sinusoids instead of noise near zero."""
    width = tower.positional_embedding.shape[1]
    waves = get_2d_sincos_pos_embed(width, tower.grid_size[0], cls_token=True)
    with torch.no_grad():
        tower.positional_embedding.copy_(torch.from_numpy(waves) * 0.5)
