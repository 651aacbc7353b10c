"""Forward and generate of a routed model: find the question, run the gate, run the model with its weights.

Routing happens in `__call__`, outside of `forward`, because accelerate and TRL replace the latter.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from octavius.lora_moe.build import LoRAMoEConfig
from octavius.lora_moe.fixed import fixed_routing
from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput
from octavius.lora_moe.losses import auxiliary
from octavius.lora_moe.routed.question import IGNORED, Question, given, of_prompt, real_tokens
from octavius.lora_moe.routing import Routing, Weights

ASK = (
    "the gate chooses the experts by the question, and this call names none: pass question_ids, or labels that are "
    f"{IGNORED} on the prompt, or call the model inside `with model.routing.use(model.route(question_ids)):`"
)


class RoutedCalls(nn.Module):
    """Mixin with the calls of a `RoutedModel`, which documents arguments and attributes."""

    arguments: ClassVar[list[str]]
    """Names of the positional arguments of `forward`, without `self`."""

    lora_moe: LoRAMoEConfig
    gate: Gate | None
    routing: Routing
    embeddings: str | None
    experts_enabled: bool

    def __call__(
        self,
        *args: Any,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        tasks: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Runs the gate, then the model with the gate's weights for each sample."""
        named = {**dict(zip(type(self).arguments, args, strict=False)), **kwargs}
        choices = []
        if self._is_open(question_ids, tasks):
            if question_ids is None and self._asks and named.get("labels") is None:
                raise ValueError(ASK)
            choices = self._choices(named, question_ids, question_mask, tasks)
        # For this pass alone: where backward recomputes layers, `checkpoint_context` restores the weights.
        with self._use(choices):
            out = super().__call__(*args, **kwargs)
        if self.lora_moe.losses and self.training and self.experts_enabled:
            self._add_losses(out, choices or self.routing.noted(), named)
        return out

    def generate(
        self,
        inputs: Tensor | None = None,
        *args: Any,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        tasks: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generates as the base does; each prompt is routed once, before its first token."""
        named = kwargs if inputs is None else {"input_ids": inputs, **kwargs}
        choices = []
        if self._is_open(question_ids, tasks):
            choices = self._choices(named, question_ids, question_mask, tasks)
        with self._use(choices), fixed_routing(self):
            return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def route(
        self,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        tasks: Sequence[str] | None = None,
    ) -> Weights | None:
        """Gate weights (B, E) of questions, to be set by `routing.use`.

        Args:
            question_ids: token ids of the questions, (B, Q) or (Q,).
            question_mask: 1 at real tokens, of the same shape.
            tasks: task name of each sample, for the gate `individual`.

        Returns:
            (B, E), a list with one such tensor per layer, or None if gates inside the layers route tokens.

        Raises:
            ValueError: the gate reads the question and none is given.
        """
        if question_ids is None and self._asks:
            raise ValueError(ASK)
        return self._weights(self._choices({}, question_ids, question_mask, tasks))

    @property
    def _asks(self) -> bool:
        """Whether the gate reads the question."""
        return self.gate is not None and "question" in self.gate.reads

    def _is_open(self, question_ids: Tensor | None, tasks: Sequence[str] | None) -> bool:
        """Whether this pass has to be routed: experts are enabled, and weights are not set already by the caller."""
        return self.experts_enabled and (
            not self.routing.is_set or question_ids is not None or tasks is not None
        )

    def _choices(
        self,
        named: Mapping[str, Any],
        question_ids: Tensor | None,
        question_mask: Tensor | None,
        tasks: Sequence[str] | None,
    ) -> list[GateOutput]:
        """Runs the gate on a batch; an empty list if the gates are inside the layers."""
        if self.gate is None:
            # A single expert has the weight 1, and one row serves any batch.
            ones = torch.ones(1, 1, device=next(self.parameters()).device)
            return [GateOutput(ones, ones)] if self.lora_moe.experts == 1 else []
        if not self._asks:  # only the batch size and tasks matter; without tasks one row serves any batch
            mask = torch.ones(1 if tasks is None else len(tasks), 1, device=next(self.parameters()).device)
            return self.gate.choices(GateInputs(mask[..., None], mask, tasks))
        question = self._question(named, question_ids, question_mask)
        embed = embeddings_of(self, self.embeddings)
        weight = cast(Tensor, embed.weight)
        # Embeddings may be on another device than the batch, as under `device_map`.
        ids, mask = (part.to(weight.device) for part in question)
        return self.gate.choices(GateInputs(embed(ids), mask, tasks))

    def _question(
        self, named: Mapping[str, Any], question_ids: Tensor | None, question_mask: Tensor | None
    ) -> Question:
        """The questions of a batch: those given, else its prompts."""
        pad = self._pad(named.get("generation_config"))
        if question_ids is None:
            if self.gate is not None and "padding" in self.gate.reads:
                raise ValueError(
                    f"the gate {type(self.gate).__name__} reads padding too, so that it needs question_ids"
                )
            return of_prompt(named, pad)
        batch = named.get("input_ids")
        batch = named.get("inputs_embeds") if batch is None else batch
        return given(question_ids, question_mask, pad, len(batch) if isinstance(batch, Tensor) else None)

    def _pad(self, *configs: Any) -> int | None:
        """The pad token id; None if it is also an end token, which is then a real token of the text."""
        for config in (*configs, getattr(self, "generation_config", None), getattr(self, "config", None)):
            pad, end = (getattr(config, f"{name}_token_id", None) for name in ("pad", "eos"))
            if pad is not None:
                return None if pad in (end if isinstance(end, list) else [end]) else int(pad)
        return None

    def _weights(self, choices: Sequence[GateOutput]) -> Weights | None:
        """The value for `routing.use`; None if there is nothing to set."""
        if not choices:
            return None
        per_layer = self.gate is not None and self.gate.per_layer
        return [choice.weights for choice in choices] if per_layer else choices[0].weights

    def _use(self, choices: Sequence[GateOutput]) -> AbstractContextManager[None]:
        weights = self._weights(choices)
        max_active = None if self.gate is None else self.gate.max_active
        return nullcontext() if weights is None else self.routing.use(weights, max_active)

    def _add_losses(self, out: Any, choices: Sequence[GateOutput], named: Mapping[str, Any]) -> None:
        """Adds the gate's auxiliary losses to the loss of an output, in place."""
        loss, labels = out.get("loss") if isinstance(out, dict) else None, named.get("labels")
        if loss is None or labels is None or named.get("fused_lm_head"):
            raise ValueError(
                "the settings `losses` are added to the loss that the model returns, but this trainer computes its "
                "own: call the model with labels, or leave `losses` out"
            )
        ids = named.get("input_ids")
        mask = named.get("attention_mask")
        real = real_tokens(labels if ids is None else ids, mask, self._pad())
        values = auxiliary(self.lora_moe.losses, choices, real)
        factors = values.new_tensor(list(self.lora_moe.losses.values()))
        # Trainers that pass `num_items_in_batch` sum losses over micro-batches instead of averaging them, so the
        # auxiliary loss is scaled by this micro-batch's share of the label tokens (shifted by one) of the step.
        step = named.get("num_items_in_batch")
        share = 1.0 if step is None else (labels[:, 1:] != IGNORED).sum() / step
        out["loss"] = loss + share * (factors * values).sum()

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Callable[..., Any] = checkpoint,
        **options: Any,
    ) -> None:
        """Overrides the hook of transformers so that layers are recomputed with the gate weights of their own pass.

        Raises:
            ValueError: reentrant checkpointing is requested, which takes no `context_fn`.
        """
        if enable and getattr(gradient_checkpointing_func, "keywords", {}).get("use_reentrant"):
            raise ValueError(
                'layers are recomputed with the gate weights of their pass, which needs {"use_reentrant": False} in '
                "the trainer's arguments of gradient (activation) checkpointing"
            )

        def routed(*args: Any, **kwargs: Any) -> Any:
            if (
                not torch.compiler.is_compiling()
            ):  # torch.compile refuses a context_fn, and keeps the weights in its graph
                kwargs["context_fn"] = self.routing.checkpoint_context
            return gradient_checkpointing_func(*args, **kwargs)

        parent = cast(Any, super())
        parent._set_gradient_checkpointing(enable, routed, **options)

    def _replicate_for_data_parallel(self) -> Any:
        raise ValueError(
            "a routed model holds the gate weights of one pass, which the threads of nn.DataParallel would "
            "overwrite: start a process for each GPU by torchrun or accelerate, or set CUDA_VISIBLE_DEVICES to one"
        )


def embeddings_of(model: nn.Module, name: str | None) -> nn.Module:
    """The module that embeds question ids: the one named, else the input embeddings of the model.

    Raises:
        ValueError: there is no such module.
    """
    if name is not None:
        modules = dict(model.named_modules())
        if not hasattr(modules.get(name), "weight"):
            known = [other for other, module in modules.items() if isinstance(module, nn.Embedding)]
            raise ValueError(
                f"{type(model).__name__} has no embedding {name!r}; it has {', '.join(known) or 'none'}"
            )
        return modules[name]
    if not hasattr(model, "get_input_embeddings"):
        raise ValueError(
            f"the gate reads the question through the model's word embeddings, and {type(model).__name__} has no "
            "get_input_embeddings: name the submodule by `embeddings`, or take a gate that reads no question"
        )
    return cast(nn.Module, model.get_input_embeddings())  # type: ignore[operator]
