"""A model's outline and the shape of a batch come in; the bytes and operations of a training step on it go out.

Nothing is computed: the step runs on tensors that have shapes and no numbers, forward and backward, through the very
layers that training runs through. What it would keep in memory is counted tensor by tensor, and its operations by
the formulas of torch's flop counter.
"""

import warnings
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from octavius.encoders.base import Encoder
from octavius.language.passes import Around
from octavius.model import Octavius
from octavius.plan.outline import Setup, depth, outline

FEW = 2
"""Layers of the smaller rehearsal; one more in the larger. The difference is what every further layer brings."""

TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What autocast computes in, by the trainer's precision; any other is without autocast."""


@dataclass(frozen=True)
class Step:
    """The shape of one micro-batch.

    Attributes:
        batch: samples B.
        tokens: T of each, slots and padding included.
        answer: answer tokens of each, for which logits are made.
    """

    batch: int
    tokens: int
    answer: int


@dataclass(frozen=True)
class Rehearsal:
    """What a training step on one micro-batch needs, beside weights, gradients and optimiser states.

    Attributes:
        held: bytes that the forward pass keeps for the backward pass.
        peak: bytes at the highest point of both.
        operations: floating-point operations of both, counting a multiply-add as two.
    """

    held: float
    peak: float
    operations: float

    def further(self, other: "Rehearsal", times: int) -> "Rehearsal":
        """This one with `times` further layers, of which `other` has one."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("held", "peak", "operations"))
        return Rehearsal(*(mine + times * (one - mine) for mine, one in pairs))


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that operations inside it have made and that are still in use.

    Attributes:
        now: bytes in use.
        peak: the most that there were.
        operations: floating-point operations so far, of matrix products and attention. (torch's own mode for them
            keeps the tensors of checkpointed layers alive.)
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        """Starts at zero; tensors of `known` and views of them never count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.operations = 0
        self._known = [tensor.untyped_storage() for tensor in known]
        self._seen = {id(storage) for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and counts what it made."""
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, out)
        formula = flop_registry.get(func.overloadpacket)
        self.operations += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def rehearse(setup: Setup, step: Step, checkpointing: bool) -> Rehearsal:
    """What a step of a set-up needs; deep decoders are rehearsed with few layers, and the rest follows from two.

    The gradients are taken to be there already, as they are when a step has several micro-batches.
    """
    layers = depth(setup)
    if layers <= FEW + 1:
        return rehearse_model(outline(setup, layers), setup.precision, step, checkpointing)
    few, more = (
        rehearse_model(outline(setup, count), setup.precision, step, checkpointing)
        for count in (FEW, FEW + 1)
    )
    return few.further(more, layers - FEW)


def rehearse_model(model: Octavius, precision: str, step: Step, checkpointing: bool) -> Rehearsal:
    """The same for a model as it is, which may be on the meta device."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        _without_numbers(model)
        model.train()
        lm = cast(Any, model.decoder.lm)
        if checkpointing:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):
                lm.gradient_checkpointing_enable(
                    {"use_reentrant": False, "context_fn": model.routing.checkpoint_context}
                )
        trained = [part for part in model.parameters() if part.requires_grad]
        for part in trained:
            part.grad = torch.zeros_like(part)
        known = [*model.parameters(), *model.buffers(), *(cast(Tensor, part.grad) for part in trained)]
        with Live(known) as live:
            with _autocast(precision):
                vectors = _vectors(model, step, live)
                live.peak = live.now
                losses = _losses(model, step, vectors)
            held = live.now
            losses.sum().backward()
    return Rehearsal(held, live.peak, live.operations)


def _without_numbers(model: nn.Module) -> None:
    """Puts a tensor of the same shape and type, on the CPU and without numbers, in the place of each."""
    made: dict[int, tuple[Tensor, Tensor]] = {}
    for part in model.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    new: Tensor = torch.empty_like(tensor, device="cpu")
                    if isinstance(tensor, nn.Parameter):
                        new = nn.Parameter(new, tensor.requires_grad)
                    made[id(tensor)] = (tensor, new)
                store[name] = cast(Any, made[id(tensor)][1])  # what two modules share stays shared


def _vectors(model: Octavius, step: Step, live: Live) -> Tensor | None:
    """The projected vectors (N, D) of one medium a sample, of the modality with the most slots.

    The encoder runs once, and its operations count for all samples.
    """
    if not len(model.encoders):
        return None
    name = max(model.encoders, key=lambda key: cast(Encoder, model.encoders[key]).num_tokens)
    encoder = cast(Encoder, model.encoders[name])
    before = live.operations
    with torch.no_grad():
        features = encoder(encoder.blank())
    live.operations += (step.batch - 1) * (live.operations - before)
    vectors = torch.cat([model.projectors[name](features) for _ in range(step.batch)])
    return vectors.flatten(0, 1)


def _losses(model: Octavius, step: Step, vectors: Tensor | None) -> Tensor:
    """Losses of all answer tokens, as `Octavius.forward` makes them of a padded batch."""
    decoder, size = model.decoder, (step.batch, step.tokens)
    embeddings = decoder.embed(torch.zeros(size, dtype=torch.long))
    if vectors is not None:
        places = torch.zeros(len(vectors), dtype=torch.long)
        embeddings = embeddings.index_put((places, places), vectors.to(embeddings.dtype))
    around: Around = nullcontext
    if model.lora is not None:
        assert isinstance(model.lora.experts, int)  # an outline of some layers has equal ones
        weights = torch.zeros(step.batch, model.lora.experts)
        kept = None if model.gate is None else model.gate.kept
        model.routing.set(weights.requires_grad_(model.lora.experts > 1), kept)
        around = partial(model.hold, weights, torch.zeros(step.batch * step.answer, dtype=torch.long), True)
    mask = torch.ones(step.batch, 1, step.tokens, step.tokens, dtype=torch.bool)
    # Fake tensors have no numbers, and positions picked by a mask no known count: indices pick rows instead.
    wanted = torch.zeros(step.batch * step.answer, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    logits = decoder.logits(embeddings, mask, wanted, around=around).float()
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="none")


def _autocast(precision: str) -> AbstractContextManager[Any]:
    kind = TYPES.get(precision)
    return nullcontext() if kind is None else torch.autocast("cpu", kind)
