"""Measures memory and FLOPs of a training step by running it on fake tensors.

Nothing is computed: forward and backward run on tensors that have shapes but no data, through the same layers
as training. Memory is tracked tensor by tensor, and FLOPs by the formulas of torch's flop counter.
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

from octavius.decoder.image_cost import NO_IMAGE, ImageCost
from octavius.decoder.passes import Around
from octavius.encoders.base import Encoder
from octavius.model import Octavius
from octavius.plan.outline import Setup, depth, outline

FEW = 2
"""Number of layers of the smaller of two rehearsals; the larger has one more.

Their difference is the cost of each further layer.
"""

TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Autocast type by the trainer's precision; others run without autocast."""


@dataclass(frozen=True)
class Step:
    """The shape of one micro-batch.

    Attributes:
        batch: number of samples B.
        tokens: number of tokens T per sample, including slots and padding.
        answer: number of answer tokens per sample, for which logits are computed.
        image: what the image of a sample takes in a vision-language model.
    """

    batch: int
    tokens: int
    answer: int
    image: ImageCost = NO_IMAGE


@dataclass(frozen=True)
class Rehearsal:
    """The cost of a training step on one micro-batch, without weights, gradients and optimizer states.

    Attributes:
        held: bytes that the forward pass stores for the backward pass.
        peak: peak bytes of both passes.
        operations: FLOPs of both passes, with a multiply-add as two.
    """

    held: float
    peak: float
    operations: float

    def further(self, other: "Rehearsal", times: int) -> "Rehearsal":
        """Extrapolates to `times` further layers, where `other` has one further layer."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("held", "peak", "operations"))
        return Rehearsal(*(mine + times * (one - mine) for mine, one in pairs))


class Live(TorchDispatchMode):
    """Tracks the bytes of all live tensors that were created while it is active.

    Attributes:
        now: bytes in use.
        peak: peak bytes.
        operations: FLOPs so far, of matrix products and attention. (torch's own FlopCounterMode would keep
            the tensors of checkpointed layers alive.)
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        """Starts at zero; tensors in `known`, and views of them, do not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.operations = 0
        self._known = [tensor.untyped_storage() for tensor in known]
        self._seen = {id(storage) for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and counts what it created."""
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
    """Rehearses a step of a set-up; for deep decoders extrapolates from two small numbers of layers.

    Gradients are assumed to exist already, as in a step with several micro-batches.
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
    """Rehearses a step of a given model, which may be on the meta device."""
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
    """Replaces every parameter and buffer by a fake tensor of the same shape and type on the CPU."""
    copies: dict[int, tuple[Tensor, Tensor]] = {}
    for part in model.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in copies:
                    new: Tensor = torch.empty_like(tensor, device="cpu")
                    if isinstance(tensor, nn.Parameter):
                        new = nn.Parameter(new, tensor.requires_grad)
                    copies[id(tensor)] = (tensor, new)
                store[name] = cast(Any, copies[id(tensor)][1])  # tied weights stay tied


def _vectors(model: Octavius, step: Step, live: Live) -> Tensor | None:
    """Projected vectors (N, D) of one medium per sample, for the modality with the most slots.

    The encoder runs once, and its FLOPs are multiplied by the number of samples.
    """
    if not len(model.encoders):
        return None
    name = max(model.encoders, key=lambda key: cast(Encoder, model.encoders[key]).num_tokens)
    encoder = cast(Encoder, model.encoders[name])
    before = live.operations
    with torch.no_grad():
        features = encoder(encoder.dummy_input())
    live.operations += (step.batch - 1) * (live.operations - before)
    vectors = torch.cat([model.projectors[name](features) for _ in range(step.batch)])
    return vectors.flatten(0, 1)


def _losses(model: Octavius, step: Step, vectors: Tensor | None) -> Tensor:
    """Losses of all answer tokens, as in `Octavius.forward` for a padded batch."""
    decoder, size = model.decoder, (step.batch, step.tokens)
    embeddings = decoder.embed(torch.zeros(size, dtype=torch.long))
    if vectors is not None:
        first = torch.zeros(len(vectors), dtype=torch.long)
        embeddings = embeddings.index_put((first, first), vectors.to(embeddings.dtype))
    around: Around = nullcontext
    if model.lora is not None:
        assert isinstance(model.lora.experts, int)  # `outline` with a number of layers makes it one number
        weights = torch.zeros(step.batch, model.lora.experts)
        max_active = None if model.gate is None else model.gate.max_active
        model.routing.set(weights.requires_grad_(model.lora.experts > 1), max_active)
        around = partial(model.hold, weights, torch.zeros(step.batch * step.answer, dtype=torch.long), True)
    mask = torch.ones(step.batch, 1, step.tokens, step.tokens, dtype=torch.bool)
    # A boolean mask over fake tensors selects an unknown number of positions, so indices are used instead.
    wanted = torch.zeros(step.batch * step.answer, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    logits = decoder.logits(embeddings, mask, wanted, around=around).float()
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="none")


def _autocast(precision: str) -> AbstractContextManager[Any]:
    kind = TYPES.get(precision)
    return nullcontext() if kind is None else torch.autocast("cpu", kind)
