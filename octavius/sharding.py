"""A model and a mesh of processes come in, the model with its decoder sharded over them goes out."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from octavius.language.loading import layers


def shard(model: nn.Module, lm: nn.Module, encoders: nn.Module, mesh: DeviceMesh) -> None:
    """Applies FSDP2 in place: a unit for each layer of the language model, and one for all else but encoders.

    All else (embeddings, head, projectors, gate) is gathered once a pass, whatever is in the batch, so that
    no process waits for one whose batch lacks a modality. Every process keeps the encoders whole likewise.
    By the mark that FSDP2 leaves on the language model, transformers generates until the last process is done.

    Args:
        model: the whole model, unsharded; its methods `forward`, `generate` and `likelihoods` work as before.
        lm: the language model in it, of Hugging Face.
        encoders: the frozen encoders in it.
        mesh: a one-dimensional mesh of all data-parallel processes.
    """
    for layer in layers(lm):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(encoders.parameters()))
    for name in ("generate", "likelihoods"):
        register_fsdp_forward_method(model, name)
        # Weights that were first gathered in inference mode could not be trained afterwards.
        setattr(model, name, torch.inference_mode(False)(cast(Callable[..., Any], getattr(model, name))))
