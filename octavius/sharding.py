"""A model and a mesh of processes come in, the model with its decoder sharded over them goes out."""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from octavius.model import Octavius


def shard(model: Octavius, mesh: DeviceMesh) -> None:
    """Applies FSDP2 in place: each decoder layer a unit, then projectors and gate, whose gradients it averages.

    Frozen encoders are replicated: a process whose batch lacks a modality must not wait for the others. Word
    embeddings and head are units of their own, unless they are one tied tensor, which stays whole.

    Args:
        model: the whole model, unsharded.
        mesh: a one-dimensional mesh of all data-parallel processes.
    """
    for layer in decoder_layers(model.decoder.lm):
        fully_shard(layer, mesh=mesh)
    for projector in model.projectors.values():
        fully_shard(projector, mesh=mesh)
    if model.gate is not None:
        fully_shard(model.gate, mesh=mesh)
    embeddings, head = model.decoder.lm.get_input_embeddings(), model.decoder.lm.get_output_embeddings()
    if embeddings.weight is not head.weight:
        fully_shard(embeddings, mesh=mesh)
        fully_shard(head, mesh=mesh)


def decoder_layers(lm: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a Hugging Face causal LM: its longest list of modules.

    Raises:
        ValueError: it has none, so there is nothing to shard.
    """
    lists = [module for module in lm.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(lm).__name__} has no list of layers to shard; use the strategy ddp")
    return list(max(lists, key=len))

