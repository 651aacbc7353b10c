"""Routed LoRA for any causal language model of transformers, with an API like that of PEFT.

`get_routed_model` changes a model in place. Instead of being wrapped, the model gets a class derived from its own
class and `RoutedModel`, as FSDP2 does: trainers, generation and other code that checks the class or the signature of
a model see no difference, and parameter names stay the same.
"""

import copy
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys
from torch.nn.parallel import DataParallel, DistributedDataParallel

from octavius.checkpoint_format.weights import check_names, fingerprint, read_tensors, trainable_names
from octavius.lora_moe.build import LoRAMoEConfig, build_lora_moe
from octavius.lora_moe.freezing import freeze
from octavius.lora_moe.gates.base import Reading
from octavius.lora_moe.inject import adapter_parameters
from octavius.lora_moe.merge import layers_of, merge, put
from octavius.lora_moe.routed import files
from octavius.lora_moe.routed.calls import RoutedCalls, embeddings_of
from octavius.lora_moe.routing import Routing

GIVEN: tuple[Reading, ...] = ("question", "padding", "task")
"""Inputs that gates get here; trainers pass no media."""


def get_routed_model(model: nn.Module, config: LoRAMoEConfig, embeddings: str | None = None) -> "RoutedModel":
    """Adds experts and a gate to a model in place, and freezes its other parameters.

    Args:
        model: a causal language model of transformers, or any module with linear layers.
        config: configuration of experts and gate.
        embeddings: name of the submodule that embeds question ids, for modules without `get_input_embeddings`.

    Returns:
        The same object, which is a `RoutedModel` now.

    Raises:
        ValueError: the configuration does not fit the model, which is then left unchanged.
    """
    _check(model, config)
    asks = config.experts != 1 and "question" in config.gate_factory.kind.reads
    width = 1
    if asks:
        width = cast(Tensor, embeddings_of(model, embeddings).weight).shape[1]
    before = next(model.parameters(), torch.empty(0)).device
    routing = Routing()
    gate = build_lora_moe(model, config, width, routing, given=GIVEN)
    routed = cast("RoutedModel", model)
    routed.__class__ = _routed_class(type(model), getattr(model, "is_quantized", False))
    routed.lora_moe, routed.routing, routed.embeddings = config, routing, embeddings
    routed.gate = None if gate is None else gate.to(before).train(model.training)
    routed.base_fingerprint = fingerprint(model)
    freeze(routed, config)
    routed.experts_enabled = True
    return routed


class RoutedModel(RoutedCalls):
    """Methods that `get_routed_model` adds to the class of a model; not to be instantiated directly.

    Calls and `generate` take three additional arguments:

        question_ids: tokens that the gate reads, (B, Q), or (1, Q) for all samples. By default the prompt: in a call
            the tokens before the first label that is not -100, in `generate` all tokens.
        question_mask: 1 at real tokens; by default all but the pad token of the model's configuration.
        tasks: task name of each sample, for the gate `individual`.

    Inside `with model.routing.use(weights)` the given weights are used, and none of these is needed.

    Attributes:
        lora_moe: configuration of experts and gate.
        gate: the gate; None with a single expert, and for gates inside the layers.
        routing: holder of the gate weights of the current pass.
        embeddings: name of the submodule that embeds the question (see `get_routed_model`).
        base_fingerprint: hash of the frozen weights, by which a saved folder recognises its base.
        experts_enabled: whether the experts are added (see `disable`).
    """

    plain_class: ClassVar[type[nn.Module]]
    """The class of the model without experts."""

    base_fingerprint: str

    @contextmanager
    def disable(self) -> Iterator[None]:
        """Context manager in which the experts are not added, so the model is its base and needs no question."""
        before = self.experts_enabled
        self._enable(False)
        try:
            yield
        finally:
            self._enable(before)

    @torch.no_grad()
    def fixed_gate(
        self,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        tasks: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Gate weights (E,) of each layer for one question, as `octavius.lora_moe.merge` takes them.

        Raises:
            ValueError: there is more than one question, or gates inside the layers route tokens.
        """
        weights, layers = self.route(question_ids, question_mask, tasks), layers_of(self)
        if weights is None:
            raise ValueError(
                "the gates of this model choose for each token anew, so that no question fixes the routing"
            )
        with self.routing.use(weights):
            found = {name: layer.routing.weights for name, layer in layers.items()}
        if many := max(len(table) for table in found.values()) - 1:
            raise ValueError(f"one question fixes the routing, found {many + 1}; give one after the other")
        return {name: table[0].float() for name, table in found.items()}

    def merge(
        self,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        tasks: Sequence[str] | None = None,
    ) -> nn.Module:
        """Returns a plain model with the experts merged for one question; this model is not changed.

        Only the layers with experts are new; all other tensors are shared with this model.

        Args:
            question_ids: one question, (Q,) or (1, Q).
            question_mask: 1 at real tokens.
            tasks: the name of one task, for the gate `individual`.
        """
        gate = self.fixed_gate(question_ids, question_mask, tasks)
        shared = {id(part): part for part in chain(self.parameters(), self.buffers())}
        plain = copy.deepcopy(self, cast(dict[int, Any], shared))
        if not hasattr(plain, "_hf_hook"):  # a `forward` that a trainer has set calls this model's
            plain.__dict__.pop("forward", None)
        merge(plain, gate)
        return _plain(plain)

    def unload(self) -> nn.Module:
        """Takes experts and gate out of the model: the same object, of its own class again."""
        for name, layer in layers_of(self).items():
            put(self, name, layer.base)
        return _plain(self)

    def print_trainable_parameters(self) -> None:
        """Prints the number of trainable parameters, as PEFT does."""
        counts = [(part.numel(), part.requires_grad) for part in self.parameters()]
        total, trained = sum(size for size, _ in counts), sum(size for size, wanted in counts if wanted)
        print(
            f"trainable params: {trained:,d} || all params: {total:,d} || trainable%: {100 * trained / total:.4f}"
        )

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Saves experts, gate, settings and other trained parameters, but not the base.

        Args:
            save_directory: folder to write to; an earlier save in it is replaced.
            is_main_process: whether this process writes.
            state_dict: tensors that replace the model's own, as trainers pass them for sharded models.
            options: further options of transformers; ignored, but `safe_serialization=False` and
                `push_to_hub=True` are refused.

        Raises:
            ValueError: a refused option, or the folder holds a complete model.
        """
        if options.get("safe_serialization") is False or options.get("push_to_hub"):
            raise ValueError(
                "a routed model is written as safetensors into a folder: leave safe_serialization=False and "
                "push_to_hub=True out (huggingface_hub.upload_folder pushes the folder)"
            )
        if not is_main_process:
            return
        own, more = self._saved_names(), state_dict or {}
        state = {name: part for name, part in self.state_dict().items() if name in own}
        tensors = {name: more.get(name, part) for name, part in state.items()}
        gate = {f"gate.{name}" for name in ({} if self.gate is None else self.gate.state_dict())}
        base = {
            "name": str(getattr(getattr(self, "config", None), "_name_or_path", "")),
            "class": type(self).__name__,
            "fingerprint": self.base_fingerprint,
        }
        also = sorted(own - adapter_parameters(self).keys() - gate)
        saved = files.Saved(self.lora_moe, base, self.embeddings, also)
        files.write(Path(save_directory), saved, tensors)

    @classmethod
    def from_pretrained(
        cls, model: nn.Module, folder: str | Path, *, check_base: bool = True
    ) -> "RoutedModel":
        """Loads saved experts and gate into their base model, in place.

        Args:
            model: the base, loaded in the same dtype as when the experts were trained.
            folder: folder that `save_pretrained` wrote, or a checkpoint of a trainer.
            check_base: whether the frozen weights must be those of training. False accepts others of the same
                shapes, such as a base that is quantised now.

        Raises:
            ValueError: files are missing or damaged, or of another base; the model is then left unchanged.
        """
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"expected the base model and then the folder of its experts, found {model!r:.60}: load the base by "
                "AutoModelForCausalLM.from_pretrained first"
            )
        folder = Path(folder)
        saved, tensors = files.read(folder), read_tensors(folder / files.TENSORS)
        trained = [part for part in model.parameters() if part.requires_grad]  # to be restored after an error
        try:
            routed = get_routed_model(model, saved.lora_moe, saved.embeddings)
        except ValueError as error:
            raise ValueError(f"{folder} is of another base, {_called(saved)}: {error}") from None
        try:
            if check_base and routed.base_fingerprint != saved.base["fingerprint"]:
                raise ValueError(
                    f"it was trained on {_called(saved)} with the weights {saved.base['fingerprint']}, those of the "
                    f"model given are {routed.base_fingerprint}: load the same base in the same type, or pass "
                    "check_base=False if others are meant"
                )
            known = dict(model.named_parameters())
            for name in saved.also_trained:
                if name in known:
                    known[name].requires_grad_(True)
            routed.load_state_dict(tensors)
        except ValueError as error:
            routed.unload()
            for part in trained:
                part.requires_grad_(True)
            raise ValueError(f"{folder}: {error}") from None
        return routed

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Loads either a full state dict, or exactly the trained tensors that `save_pretrained` and trainers save.

        Raises:
            ValueError: of the trained tensors some are missing, unknown or of another shape, even if not `strict`.
        """
        own = self.state_dict()
        saved = self._saved_names()
        wanted = {name: part.shape for name, part in own.items() if name in saved}
        if state_dict.keys() & (own.keys() - wanted.keys()):
            return super().load_state_dict(state_dict, strict, assign)
        check_names(state_dict, wanted, "this state dict", "Use the settings that it was trained with")
        super().load_state_dict(state_dict, False, assign)
        return _IncompatibleKeys([], [])

    def _enable(self, whether: bool) -> None:
        self.experts_enabled = whether
        for layer in layers_of(self).values():
            layer.enabled = whether

    def _saved_names(self) -> set[str]:
        """Names of the parameters and buffers to save: experts, gate, and other trained parameters."""
        gate = {f"gate.{name}" for name in ({} if self.gate is None else self.gate.state_dict())}
        return {*adapter_parameters(self), *gate, *trainable_names(self)}


def _routed_class(plain: type[nn.Module], quantised: bool) -> type[RoutedModel]:
    """Derives the class of a routed model, under the name of its base, which transformers checks in places."""

    @functools.wraps(plain.forward)
    def forward(self: RoutedModel, *args: Any, **kwargs: Any) -> Any:
        return plain.forward(self, *args, **kwargs)

    # Trainers drop the columns of a dataset that this signature does not name.
    signature = inspect.signature(plain.forward)
    own = [*signature.parameters.values()]
    rest = own.pop() if own[-1].kind is inspect.Parameter.VAR_KEYWORD else None
    own += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in ("question_ids", "question_mask", "tasks")
    ]
    forward.__signature__ = signature.replace(parameters=[*own, *([rest] if rest else [])])  # type: ignore[attr-defined]
    names = [name for name in signature.parameters if name != "self"]
    members = {
        "forward": forward,
        "arguments": names,
        "plain_class": plain,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
    }
    if quantised:  # marks adapters; without it trainers refuse to train a quantised model
        members["_hf_peft_config_loaded"] = True
    return type(plain.__name__, (RoutedModel, plain), members)


def _check(model: nn.Module, config: LoRAMoEConfig) -> None:
    """Refuses models and settings that would fail later or silently have no effect."""
    if not isinstance(config, LoRAMoEConfig):
        raise ValueError(f"expected the settings LoRAMoEConfig(...), found a {type(config).__name__}")
    if config.train == "added":
        raise ValueError(
            "train='added' needs the training loop of `octavius fit`; take 'all', 'experts' or 'gate'"
        )
    if isinstance(model, RoutedModel):
        raise ValueError(
            f"this {type(model).__name__} has experts already; take them out by model.unload() first"
        )
    if isinstance(model, DistributedDataParallel | DataParallel) or hasattr(model, "_orig_mod"):
        raise ValueError(
            f"a {type(model).__name__} is wrapped already: give the model itself, and wrap or compile it afterwards"
        )
    if taken := [name for name in ("lora_moe", "gate", "routing") if hasattr(model, name)]:
        raise ValueError(
            f"{type(model).__name__} has an attribute {taken[0]!r}, which a routed model needs for itself; put the "
            "model into an nn.Sequential"
        )
    named = inspect.signature(model.forward).parameters
    if taken := [name for name in ("question_ids", "question_mask", "tasks") if name in named]:
        raise ValueError(
            f"forward of {type(model).__name__} has an argument {taken[0]!r}, which is the gate's here"
        )


def _plain(model: RoutedModel) -> nn.Module:
    """Restores the class and removes the attributes of a routed model whose layers have been replaced."""
    for name in ("lora_moe", "gate", "routing", "embeddings", "base_fingerprint", "experts_enabled"):
        delattr(model, name)
    model.__class__ = model.plain_class  # type: ignore[assignment]
    return model


def _called(saved: files.Saved) -> str:
    """Class and name of the base of a folder, for messages."""
    return f"{saved.base.get('class', 'a model')} {saved.base.get('name', '')!r}"
