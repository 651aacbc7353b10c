"""LightningModule for instruction tuning: loss normalisation, optimizer, schedule and checkpoint content.

The loss is normalised over the whole optimizer step (all micro-batches on all ranks), so results do not
depend on how the batch is divided.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from safetensors.torch import save_file
from torch import Tensor, nn

from octavius.checkpoint_format.weights import (
    check_fingerprint,
    fingerprint,
    keep_trainable,
    load_fitting,
    part_of,
    trainable_names,
)
from octavius.decoder.decoder import Decoder
from octavius.decoder.loading import to_float32
from octavius.distributed.precision import has_bfloat16
from octavius.distributed.sharding import shard
from octavius.encoders.base import Encoder, UnreadableMediaError
from octavius.evaluation.answers import Answered, Decoding
from octavius.evaluation.generation import answer_batch
from octavius.folders import saving_folder
from octavius.gate_fitting import fit_gate_to_questions, fit_gate_to_updates, needs_fit
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.chat import depends_on_moment, template_of
from octavius.instruction.prompt import Template
from octavius.limits import FRACTION, NON_NEGATIVE_NUMBER, POSITIVE_INT, POSITIVE_NUMBER, PROBABILITY_BELOW_1
from octavius.lora_moe import LoRAMoEConfig
from octavius.lora_moe.freezing import freeze, keep_earlier
from octavius.model import AnswerLosses, Octavius
from octavius.optimizer import adamw
from octavius.presets import find_checkpoint
from octavius.published.tag_tokens import train_tag_tokens
from octavius.tasks import TASKS

PROJECTORS = "projectors.safetensors"
"""Name of the file with the projectors, next to a decoder that was trained with them."""


class OctaviusModule(L.LightningModule):
    """Tunes an `Octavius` model with a loss that is exact over the whole optimizer step.

    Attributes:
        decoding: how `validation_step` and `test_step` generate answers; `Evaluation` sets it.
    """

    def __init__(
        self,
        decoder: Decoder,
        encoders: dict[str, Encoder],
        lora: LoRAMoEConfig | None = None,
        normalise_features: bool = False,
        template: Template | Literal["chat"] | None = None,
        test_template: Template | None = None,
        tag_tokens: bool = False,
        max_tokens: int = 2048,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 1e-3,
        warmup: float = 0.1,
        loss_norm: Literal["token", "sample", "positions"] = "token",
        activation_checkpointing: bool = False,
        save_decoder: str | None = None,
        projectors: str | None = None,
    ) -> None:
        """Builds the model; the defaults are those of the paper (Section 4.1).

        Args:
            decoder: the language model.
            encoders: modality name to encoder; empty for text alone.
            lora: the LoRA experts; null trains the whole decoder instead.
            normalise_features: normalise each encoder feature vector to mean 0 and variance 1 before the
                projector; the paper does not.
            template: the prompt template; `chat` takes the tokenizer's own chat template as rendered when
                training begins (some contain a date) and stores it in the checkpoint.
            test_template: the template of prompts whose answer is generated; null takes `template`, which is
                recommended.
            tag_tokens: add the tags around media to the vocabulary and train all word embeddings and the
                output layer with the experts, as the published code does (the paper does not mention it).
            max_tokens: length limit of a prompt with its answer.
            lr: peak learning rate of AdamW.
            betas: betas of AdamW.
            weight_decay: weight decay of AdamW, on all trainable tensors; none with `lora.train: added`.
            warmup: fraction of the steps in which the learning rate rises; afterwards it falls linearly to
                zero.
            loss_norm: divisor of a step's summed token losses: the number of answer tokens, the number of
                samples (each contributes the mean of its tokens), or all positions, padding included (as in
                the published code).
            activation_checkpointing: recompute the decoder's layers in the backward pass to save memory.
            save_decoder: folder for the trained decoder, written at the end of training without experts,
                along with the projectors as projectors.safetensors.
            projectors: a file of projectors, as `save_decoder` writes it, to start from instead of random
                weights; tensors that are missing in it or differ in shape start at random and are reported.
        """
        POSITIVE_INT.check(max_tokens=max_tokens)
        POSITIVE_NUMBER.check(lr=lr)
        PROBABILITY_BELOW_1.check(betas=betas)
        NON_NEGATIVE_NUMBER.check(weight_decay=weight_decay)
        FRACTION.check(warmup=warmup)
        super().__init__()
        self.model = Octavius(decoder, encoders, lora, normalise_features)
        if projectors is not None:
            begin_with(self.model.projectors, find_checkpoint(projectors))
        if tag_tokens:  # after building the model, which freezes the decoder
            train_tag_tokens(decoder, encoders, template)
        self.processor: Processor = self.model.processor(template, max_tokens, test_template)
        self._chat = template == "chat"
        self.lr, self.betas, self.weight_decay, self.warmup = lr, betas, weight_decay, warmup
        self.loss_norm = loss_norm
        self.saved_names = trainable_names(self)
        self.frozen_fingerprint = fingerprint(self)
        if lora is not None:
            freeze(self.model, lora)
        self.strict_loading = (
            False  # only trained tensors are saved; check_fingerprint checks that set strictly
        )
        self.save_decoder = save_decoder
        if lora is None and decoder.quantise is not None:
            raise ValueError(
                "a quantised decoder cannot be trained whole; give it experts (lora), or no quantise"
            )
        if save_decoder is not None and lora is not None:
            raise ValueError("save_decoder writes a decoder trained whole; with experts use the checkpoint")
        self.decoding = Decoding()
        self._losses = {} if lora is None else lora.losses
        # Sums of the current optimizer step in one vector, so that one all-reduce adds them over the ranks:
        # [divisor, loss of each task, answer tokens of each task, auxiliary losses].
        self._sums = torch.zeros(1 + 2 * len(TASKS) + len(self._losses))
        self._sharded = False
        self._seed: int | None = None
        # transformers loads models in eval mode and Lightning keeps it, which would switch off dropout and
        # activation checkpointing.
        self.train()
        if activation_checkpointing:
            decoder.lm.gradient_checkpointing_enable(
                {"use_reentrant": False, "context_fn": self.model.routing.checkpoint_context}
            )

    def configure_model(self) -> None:
        """Shards the model under FSDP2, once: Lightning calls this hook again before every later stage."""
        mesh = self.device_mesh
        if mesh is not None and not self.model.decoder.takes_vectors:
            raise ValueError("vision-language models are not sharded yet: set trainer.strategy to ddp")
        if mesh is not None and self.model.lora is not None and self.model.lora.train == "added":
            raise ValueError("added experts are not trained in shards yet: set trainer.strategy to ddp")
        if mesh is not None and self.model.decoder.quantise is not None:
            raise ValueError("quantised decoders are not sharded: set trainer.strategy to ddp")
        if mesh is not None and not self._sharded:
            shard(self.model, self.model.decoder.lm, self.model.encoders, mesh["data_parallel"])
            self._sharded = True

    def setup(self, stage: str) -> None:
        """Checks the trainer's precision and lets the encoders precompute.

        On devices without fast bfloat16 the language model's weights are converted to float32, which keeps
        their values.

        Raises:
            ValueError: the precision is bf16-true, 16-true or similar, which would convert the trained
                weights too.
        """
        precision = str(self.trainer.precision)
        if precision.endswith("-true") and not precision.startswith("32"):
            raise ValueError(
                f"trainer.precision is {precision!r}, which would change the type of the trained weights too; take "
                "bf16-mixed, and give the frozen language model its type by "
                "model.init_args.decoder.init_args.dtype: bfloat16"
            )
        if not has_bfloat16(self.trainer.strategy.root_device.type):
            to_float32(self.model.decoder.lm)
        if stage == "fit" and getattr(self.trainer.datamodule, "batching", None) == "packed":  # type: ignore[attr-defined]
            self.model.decoder.check_packing()
        if self._chat:  # a template with a date differs between processes that started around midnight
            values = self.trainer.strategy.broadcast(asdict(self.processor.prompts.template))
            self._write_by(template_of(values, "the first process"))
        samples_of = getattr(self.trainer.datamodule, "samples_of", None)  # type: ignore[attr-defined]
        if samples_of is not None:
            device = self.trainer.strategy.root_device
            try:
                self.model.prepare(
                    partial(samples_of, stage), device, self.global_rank, self.trainer.world_size
                )
            except UnreadableMediaError as error:
                if not getattr(self.trainer.datamodule, "skips", False):  # type: ignore[attr-defined]
                    raise
                print(f"{error}. They are left out when they are drawn (bad: skip)", flush=True)
            self.trainer.strategy.barrier()

    def on_fit_start(self) -> None:
        """Takes the global seed for dropout and noise, unless a checkpoint restored it; fits the gate."""
        self._seed = torch.initial_seed() if self._seed is None else self._seed
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        # Not in `setup`: a checkpoint is restored after it, whose gate may be fitted or not.
        if needs_fit(self.model.gate, "questions") and hasattr(data, "train_sets"):
            fit_gate_to_questions(self.model, [item.samples for item in data.train_sets()])
        if needs_fit(self.model.gate, "updates") and hasattr(data, "train_sets"):
            sources = [item.samples for item in data.train_sets()]
            skip = (ValueError, OSError) if getattr(data, "skips", False) else ()
            batch_size = getattr(data, "batch_size", 16)
            with self.trainer.precision_plugin.forward_context():
                fit_gate_to_updates(self.model, self.processor, sources, batch_size, skip)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's names
        """Seeds dropout and noise by epoch, batch and rank, so that a resumed run draws the same numbers.

        Lightning's total batch count cannot serve as the key: it counts an interrupted batch twice.
        """
        assert self._seed is not None
        stream = f"{self._seed}/{self.current_epoch}/{batch_idx}/{self.global_rank}"
        torch.manual_seed(int.from_bytes(sha256(stream.encode()).digest()[:8]) >> 1)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Summed loss of a micro-batch; `on_before_optimizer_step` divides by the divisor of the whole step.

        With experts the result has the gate weights (B, E) too, as `gate`, for `octavius.callbacks.routing`.

        The auxiliary loss of a step is the weighted mean over its micro-batches and ranks, where each has its
        share of the divisor as weight.
        """
        out: AnswerLosses = self.model(batch)
        weights, norm = self._weights(out, batch)
        sums = torch.cat([norm[None], by_task(out, batch), out.auxiliary.detach() * norm])
        self._sums = self._sums.to(sums.device) + sums
        total = (out.losses * weights).sum()
        for factor, extra in zip(self._losses.values(), out.auxiliary, strict=True):
            total = total + factor * norm * extra
        # Undoes two divisions: Lightning's by accumulate_grad_batches, and that of DDP and FSDP by the world size.
        loss = total * self.trainer.accumulate_grad_batches * self.trainer.world_size
        return {"loss": loss} if out.gate is None else {"loss": loss, "gate": out.gate.detach()}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divides the gradients by the number of tokens (or samples, positions) of the whole step over all ranks."""
        sums = self._sums
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        self._sums = torch.zeros_like(sums)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.div_(sums[0])
        if self.model.lora is not None:
            keep_earlier(self.model, self.model.lora)
        by_name = 1 + 2 * len(TASKS)
        self._log_losses(*sums[1:by_name].chunk(2))
        for name, value in zip(self._losses, sums[by_name:] / sums[0], strict=True):
            self.log(f"train/loss/{name}", value)

    def on_fit_end(self) -> None:
        """Writes the decoder and the projectors if `save_decoder` is set."""
        if self.save_decoder is None:
            return
        # Collective: gathering shards needs all ranks, although only rank 0 gets the result.
        state = keep_trainable(self, self.trainer.strategy.lightning_module_state_dict())
        if self.trainer.is_global_zero:
            with saving_folder(Path(self.save_decoder)) as folder:
                self.model.decoder.save(folder, part_of(state, "model.decoder.lm."))
                save_file(part_of(state, "model.projectors."), folder / PROJECTORS)

    def answer(
        self, batch: Batch, max_new_tokens: int | Sequence[int], **options: Any
    ) -> tuple[list[str], Tensor | None]:
        """Generated answers and gate weights (B, E) of a left-padded batch, cut at the template's end mark."""
        end = self.processor.prompts.generation_template.end.strip()
        texts, gate = self.model.generate(batch, max_new_tokens, stop=end, **options)
        return ([text.split(end)[0].rstrip() for text in texts] if end else texts), gate

    def likelihoods(self, batch: Batch, candidates: Sequence[Sequence[str]]) -> list[list[tuple[float, int]]]:
        """Log-probability and number of tokens of each candidate answer to each prompt of a left-padded batch.

        Raises:
            ValueError: the template ends answers with an end mark of its own, which candidates would lack.
        """
        if (
            self.processor.prompts.generation_template.end
            or self.processor.prompts.generation_template.joined
        ):
            raise ValueError(
                "candidate answers are scored with the end-of-sequence token behind them, but this model's template "
                "ends answers otherwise; leave evaluation.likelihood off"
            )
        return self.model.likelihoods(batch, candidates)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Answered]]:  # noqa: ARG002
        """The `answers` to a batch, generated as `decoding` says."""
        return {"answers": self._answers(batch)}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Answered]]:  # noqa: ARG002
        """The `answers` to a batch, generated as `decoding` says."""
        return {"answers": self._answers(batch)}

    def _answers(self, batch: Batch) -> list[Answered]:
        # Lightning runs steps under the trainer's autocast; answers are the same as those of `octavius predict`,
        # which has none.
        with torch.autocast(self.device.type, enabled=False):
            return answer_batch(self, batch, self.decoding)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW over all trainable tensors with linear warm-up, then linear decay to zero.

        A gate with an `lr_factor` gets a parameter group with its own learning rate.
        """
        # Decay would change the earlier experts, whose gradients are zero (see `keep_earlier`).
        lora = self.model.lora
        decay = 0.0 if lora is not None and lora.train == "added" else self.weight_decay
        options = self.lr, self.betas, decay, self.warmup
        return adamw(self, self.model.gate, *options, self.trainer.estimated_stepping_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reduces the state dict to the trainable tensors and adds a fingerprint of the frozen ones, and the seed."""
        checkpoint["state_dict"] = keep_trainable(self, checkpoint["state_dict"])
        checkpoint["frozen_fingerprint"] = self.frozen_fingerprint
        checkpoint["seed"] = self._seed
        if self._chat:
            checkpoint["template"] = asdict(self.processor.prompts.template)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the seed and the chat template.

        Raises:
            ValueError: the checkpoint belongs to another model.
        """
        check_fingerprint(self, checkpoint, self.frozen_fingerprint)
        self._seed = checkpoint.get("seed")
        if self._chat and "template" in checkpoint:
            self._write_by(template_of(checkpoint["template"], "this checkpoint"))
        elif self._chat and depends_on_moment(self.model.decoder.tokenizer):
            rank_zero_warn(
                "the chat template of this model writes the date or the time, and this checkpoint does not keep the "
                "words that it was trained with: those of now are taken"
            )

    def _write_by(self, template: Template) -> None:
        """Sets the prompt template, also for generation unless `test_template` is set."""
        prompts = self.processor.prompts
        if prompts.generation_template is prompts.template:
            prompts.generation_template = template
        prompts.template = template

    def _weights(self, out: AnswerLosses, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weight (M,) of each answer token in the summed loss, and the micro-batch's part of the divisor."""
        losses = out.losses
        if self.loss_norm == "token":
            return torch.ones_like(losses), losses.new_tensor(len(losses))
        if self.loss_norm == "sample":
            lengths = torch.bincount(out.rows, minlength=len(batch))
            return 1.0 / lengths[out.rows], losses.new_tensor(len(batch))
        return torch.ones_like(losses), losses.new_tensor(batch.labels[:, 1:].numel())

    def _log_losses(self, losses: Tensor, tokens: Tensor) -> None:
        """Logs the mean token loss of the step over all ranks; a task without tokens in it keeps its last value."""
        self.log("train/loss", losses.sum() / tokens.sum(), prog_bar=True)
        for task, total, count in zip(TASKS, losses, tokens.tolist(), strict=True):
            if count:
                self.log(f"train/loss/{task}", total / count)


def begin_with(projectors: nn.Module, path: Path) -> None:
    """Loads the tensors of a file that fit the projectors, and logs in one line which parts stay random."""
    taken = load_fitting(projectors, path)
    rest = dict.fromkeys(own_part(name, taken) for name in projectors.state_dict() if name not in taken)
    said = f"; at random begin {', '.join(rest)}" if rest else ""
    rank_zero_info(f"projectors: {len(taken)} tensors from {path}{said}")


def own_part(name: str, others: Collection[str]) -> str:
    """The name of the largest submodule that holds the tensor `name` and none of the `others`.

    >>> own_part("cloud.enter.weight", {"cloud.leave.bias"})
    'cloud.enter'
    """
    parts = name.split(".")
    parents = (".".join(parts[:count]) for count in range(1, len(parts)))
    return next((one for one in parents if not any(other.startswith(f"{one}.") for other in others)), name)


def by_task(out: AnswerLosses, batch: Batch) -> Tensor:
    """Summed loss of each task in `TASKS`, followed by the number of answer tokens of each, in one vector."""
    names = list(TASKS)
    tasks = torch.tensor([names.index(sample.task) for sample in batch.samples], device=out.rows.device)
    zeros = out.losses.new_zeros(len(names))
    indices, losses = tasks[out.rows], out.losses.detach()
    return torch.cat([zeros.index_add(0, indices, part) for part in (losses, torch.ones_like(losses))])
