"""A model and a mesh of processes come in, the model with its decoder sharded over them goes out."""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from octavius.model import Octavius


def shard(model: Octavius, mesh: DeviceMesh) -> None:
    """Applies FSDP2 in place: a unit for each decoder layer, and one for the rest but the frozen encoders.

    The rest (embeddings, head, projectors, gate) is gathered once a pass, whatever is in the batch, so that no
    process waits for one whose batch lacks a modality. Every process keeps the encoders whole, likewise.

    Args:
        model: the whole model, unsharded.
        mesh: a one-dimensional mesh of all data-parallel processes.
    """
    for layer in decoder_layers(model.decoder.lm):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(model.encoders.parameters()))
    register_fsdp_forward_method(model, "generate")
    # Every token is a collective now: this has transformers generate until the last process is done.
    model.decoder.lm._is_fsdp_managed_module = True


def decoder_layers(lm: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a Hugging Face causal LM: its longest list of modules.

    Raises:
        ValueError: it has none, so there is nothing to shard.
    """
    lists = [module for module in lm.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(lm).__name__} has no list of layers to shard; use the strategy ddp")
    return list(max(lists, key=len))
