"""A gate and its layers on two processes, by DDP and by FSDP2, with each backend: the gradients of one process."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from octavius.lora_moe import InstanceGate, LoRAMoELinear, Routing
from octavius.lora_moe.backends import BACKENDS
from octavius.lora_moe.gates.base import GateSize

NAMES = ("auto", *BACKENDS)
KINDS = ("ddp", "fsdp")
LIMIT = 120
"""Seconds after which processes are taken to hang."""


class GateInputs(nn.Module):
    """Two layers and the gate that reads a question."""

    def __init__(self, backend: Any) -> None:
        super().__init__()
        self.routing, self.gate = Routing(), InstanceGate(GateSize(6, 4), top_k=2)
        self.layers = nn.Sequential(
            *(LoRAMoELinear(nn.Linear(6, 6), 4, 2, 2.0, 0.0, self.routing, backend=backend) for _ in range(2))
        )

    def forward(self, question: Tensor, x: Tensor) -> Tensor:
        weights = self.gate(question, torch.ones(question.shape[:2]))
        with self.routing.use(weights, self.gate.max_active):
            return torch.as_tensor(self.layers(x))


def make(backend: str) -> tuple[GateInputs, Tensor, Tensor]:
    """The same model, questions and inputs of four samples at each call."""
    torch.manual_seed(0)
    model = GateInputs(backend)
    for layer in model.layers:
        nn.init.normal_(layer.get_parameter("lora_B"))
    return model, torch.randn(4, 3, 6), torch.randn(4, 90, 6)


def step(kind: str, backend: str, rank: int) -> dict[str, Tensor]:
    """The gradients that a process has after its two samples."""
    model, questions, x = make(backend)
    wrapped: nn.Module = model
    if kind == "ddp":
        wrapped = DistributedDataParallel(model)
    else:
        for part in model.layers:
            fully_shard(part)
        fully_shard(model)
    own = slice(2 * rank, 2 * rank + 2)
    wrapped(questions[own], x[own]).square().sum().backward()
    grads = {name: part.grad for name, part in model.named_parameters() if part.requires_grad}
    return {
        name: grad.full_tensor() if isinstance(grad, DTensor) else torch.as_tensor(grad)
        for name, grad in grads.items()
    }


def work(rank: int, folder: Path) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = {f"{kind} {backend}": step(kind, backend, rank) for kind in KINDS for backend in NAMES}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """The gradients of both processes by kind and backend."""
    folder = tmp_path_factory.mktemp("two")
    both: Any = multiprocessing.spawn(work, (folder,), nprocs=2, join=False)
    done = both.join(timeout=LIMIT) or both.join(timeout=LIMIT)  # the first returns when one of them is done
    for process in both.processes:
        process.kill()
    assert done, f"two processes were not done after {2 * LIMIT} s"
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", NAMES)
def test_two_processes_have_the_gradients_of_one(found: Any, kind: str, backend: str) -> None:
    model, questions, x = make("concatenated")
    (model(questions, x).square().sum() / 2).backward()
    expected = {name: part.grad for name, part in model.named_parameters() if part.requires_grad}
    assert all(grad is not None and grad.abs().max() > 0 for grad in expected.values())
    for ranks in found:
        torch.testing.assert_close(ranks[f"{kind} {backend}"], expected, rtol=1e-4, atol=1e-3)
