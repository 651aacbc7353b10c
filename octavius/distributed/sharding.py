"""Sharding of the model with FSDP2: one unit per decoder layer, frozen encoders replicated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from octavius.decoder.loading import layers


def shard(model: nn.Module, lm: nn.Module, encoders: nn.Module, mesh: DeviceMesh) -> None:
    """Applies FSDP2 in place: one unit for each decoder layer, and the root unit for the rest except the encoders.

    The rest (embeddings, head, projectors, gate) is gathered once per pass, whatever the batch contains, so
    no rank waits for one whose batch lacks a modality. The encoders are replicated for the same reason.
    transformers recognises a model under FSDP2 and generates until the last rank is done.

    Args:
        model: the whole, unsharded model; its methods `forward`, `generate` and `likelihoods` keep working.
        lm: the Hugging Face language model in it.
        encoders: the frozen encoders in it.
        mesh: one-dimensional mesh of all data-parallel ranks.
    """
    for layer in layers(lm):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(encoders.parameters()))
    for name in ("generate", "likelihoods"):
        register_fsdp_forward_method(model, name)
        # Lightning evaluates in inference mode. Parameters that FSDP first gathers there would be inference
        # tensors, which autograd refuses later.
        setattr(model, name, torch.inference_mode(False)(cast(Callable[..., Any], getattr(model, name))))


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """A context in which the parameters of the root unit (embeddings, head, projectors, gate) are whole.

    They are for reading: changes are lost.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


@torch.no_grad()
def copy_whole(source: nn.Module, target: nn.Module) -> None:
    """Copies all tensors of a module to one of the same class; the parameters of either may be sharded."""
    given = {**dict(source.named_parameters()), **dict(source.named_buffers())}
    for name, tensor in (*target.named_parameters(), *target.named_buffers()):
        value = given[name].detach()
        value = (value.full_tensor() if isinstance(value, DTensor) else value).to(tensor.device)
        if isinstance(tensor, DTensor):
            value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
        tensor.copy_(value)
