"""A vision-language model of transformers as base: its own processor, chat template, vision tower and connector.

Every pass is the model's own forward method on token ids and the tensors of its processor. So what differs by family
(positions in three dimensions, features that enter several layers, attention in both directions over an image) stays
where it is defined.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from octavius.decoder.check import Capabilities
from octavius.decoder.decoder import Decoder, Hold, ScorePart
from octavius.decoder.image_cost import ImageCost, image_cost
from octavius.decoder.loading import locate
from octavius.decoder.passes import Around, Positions, log_likelihoods, logits_at
from octavius.decoder.quantised import Quantised, loading_options
from octavius.decoder.vision_check import check_use
from octavius.decoder.vision_loading import (
    beside_language,
    connector_of,
    language_of,
    load_model,
    load_processor,
    type_names,
)
from octavius.decoder.vision_processor import ImageTensors, VisionInputs, VisionProcessor
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample

UNLIMITED = 2**20
"""A number of tokens that no prompt reaches."""

PACKING = "vision-language models compute positions and attention row by row"


class VisionLanguageDecoder(Decoder):
    """A vision-language model of transformers, whose language part is tuned and whose vision tower is frozen.

    Attributes:
        backend: its processor.
        prompts: its prompts, of any length.
        type_names: names under which it takes the type of each token.
        train_connector: whether the modules between vision tower and language part are trained.
    """

    takes_vectors: ClassVar[bool] = False
    loaders: ClassVar[tuple[str, str]] = ("AutoModelForImageTextToText", "AutoProcessor")

    def __init__(
        self,
        name: str,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        attention: str = "sdpa",
        train_connector: bool = False,
        quantise: Quantised | None = None,
    ) -> None:
        """Loads the model and its processor.

        Args:
            name: a hub id, a local folder, or a bare name under `checkpoints/`.
            dtype: type of the weights.
            attention: `sdpa`, `eager` or another attention implementation of transformers.
            train_connector: train the modules between vision tower and language part too, as a whole.
            quantise: load the linear layers of the language part in 4 bits (`nf4`) or 8 bits (`int8`) by
                bitsandbytes, for training experts on a model that does not fit in `dtype`.

        Raises:
            ValueError: there is no such model, it is no vision-language model, has no processor or chat template,
                or it fails `octavius.decoder.vision_check`.
        """
        nn.Module.__init__(self)
        self._one_image = ""
        self.name, self.compiled, self.train_connector = name, False, train_connector
        self.quantise = quantise
        self.capabilities = Capabilities(packing=PACKING, caching=False)
        location = locate(name)
        self.backend, self._image_id = load_processor(location, name)
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        if quantise is not None:
            kept = beside_language(location)
            options |= loading_options(quantise, options["dtype"], str(location), False, kept)
        self.lm = load_model(location, name, options)
        self.attention: str = self.lm.config._attn_implementation
        ends = self.lm.generation_config.eos_token_id if self.lm.generation_config else None
        # Drops the generation defaults that a model ships for chat, such as sampling or a repetition penalty.
        self.lm.generation_config = GenerationConfig()
        self.type_names = type_names(self.backend)
        try:
            processor = self.own_processor(UNLIMITED)
            self.prompts = processor.vision_prompts
            self.tokenizer = self.prompts.tokenizer
            others = ends if isinstance(ends, list) else [ends]
            self.ends = list(
                dict.fromkeys([self.tokenizer.eos_id, *(one for one in others if one is not None)])
            )
            self.width = cast(Tensor, self.lm.get_input_embeddings().weight).shape[1]
            self.unfreeze()
            self._one_image = check_use(self, processor)
            self.prompts.chat = replace(self.prompts.chat, one_image=self._one_image)
        except ValueError as error:
            raise ValueError(f"the vision-language model {name!r} cannot be used: {error}") from None

    @property
    def tuned(self) -> nn.Module:
        """The language part, without the output layer."""
        return language_of(self.lm)

    def unfreeze(self) -> None:
        """Lets the language part be trained, and the connector if that is set; all else is frozen."""
        self.requires_grad_(False)
        for weight in self.tuned.parameters():
            weight.requires_grad_(weight.is_floating_point())  # not those that are quantised
        if self.train_connector:
            for part in connector_of(self.lm):
                part.requires_grad_(True)

    def train(self, mode: bool = True) -> "VisionLanguageDecoder":
        """Sets the mode of the language part; the vision tower stays in evaluation mode."""
        super().train(mode)
        self.lm.get_encoder(modality="image").train(False)
        return self

    def own_processor(self, max_tokens: int, *templates: object) -> VisionProcessor:
        """The processor that prepares samples for this model.

        Args:
            max_tokens: length limit of a prompt with its answer, image tokens included.
            templates: must all be None.

        Raises:
            ValueError: there is a template, or the processor's own cannot be used.
        """
        if any(template is not None for template in templates):
            raise ValueError(
                f"the prompts of {self.name!r} are written by its own chat template: leave out `template` and "
                "`test_template`"
            )
        return VisionProcessor(self.backend, self._image_id, max_tokens, self._one_image)

    def continued(
        self, prompts: Sequence[tuple[Any, Tensor]], said: Sequence[list[int]]
    ) -> tuple[Any, Tensor]:
        """A left-padded batch of prompts with the beginnings of their answers: `Decoder.continued`."""
        alone: list[VisionInputs] = [inputs for inputs, _ in prompts]
        new = [
            torch.tensor(ids, dtype=torch.long, device=mask.device)
            for (_, mask), ids in zip(prompts, said, strict=True)
        ]

        def padded(parts: Iterable[Tensor], fill: int | None, padding: int = 0) -> Tensor:
            ends = new if fill is None else [torch.full_like(ids, fill) for ids in new]
            rows = [torch.cat([part[0], end]) for part, end in zip(parts, ends, strict=True)]
            return pad_sequence(rows, batch_first=True, padding_value=padding, padding_side="left")

        ids = padded((one.ids for one in alone), None, self.tokenizer.pad_id)
        types = padded((one.types for one in alone), 0)
        owners = [row for row, one in enumerate(alone) if one.owners]
        images = ImageTensors(tuple(item for one in alone for item in one.images.images))
        mask = padded((mask for _, mask in prompts), 1)
        return VisionInputs(ids, types, self.type_names, owners, images), mask

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of an answer with the token that ends it."""
        return self.prompts.answer_ids(text)

    def image_cost(self, size: tuple[int, int]) -> ImageCost:
        """What an image of a width and height in pixels takes, by the model's own processor."""
        text = self.prompts.chat.question([("", "What is this?")])
        ids, tensors = self.prompts.encode(text, [Image.new("RGB", size)])
        return image_cost(self.lm, ids.count(self.prompts.image_id), tensors)

    def inputs(self, batch: Batch) -> VisionInputs:
        """Token ids and images of a batch."""
        return VisionInputs.of(batch, self.type_names, self.tokenizer.pad_id)

    def logits(
        self,
        embeddings: Any,
        attention_mask: Tensor,
        wanted: Positions,
        segment_ids: Tensor | None = None,
        around: Around = nullcontext,
    ) -> Tensor:
        """Vocabulary logits (M, V) at the wanted positions: `Decoder.logits` for `VisionInputs`."""
        if segment_ids is not None:
            self.check_packing(segment_ids)
        inputs: VisionInputs = embeddings
        options = {**inputs.options(), "attention_mask": attention_mask, "use_cache": False}
        logits = logits_at(self.lm, None, wanted, around, **options)[0]
        if self.training and self.train_connector and not inputs.owners:
            # Adds zero, so that the connector takes part in the backward pass of every process.
            parts = [value.sum() for part in connector_of(self.lm) for value in part.parameters()]
            logits = logits + 0.0 * torch.stack(parts).sum()
        return logits

    def check_packing(self, segment_ids: Tensor | None = None) -> None:  # noqa: ARG002
        """Refuses packed batches.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"texts cannot be packed: {PACKING}; set data.init_args.batching to grouped")

    @torch.no_grad()
    def generate(
        self,
        embeddings: Any,
        attention_mask: Tensor,
        max_new_tokens: int,
        stop: str = "",
        **options: Any,
    ) -> Any:
        """New token ids (B, N): `Decoder.generate` for `VisionInputs`."""
        inputs: VisionInputs = embeddings
        assert not stop, "the end of an answer is a token of the chat template"
        out = self.lm.generate(  # type: ignore[operator]
            **inputs.options(),
            attention_mask=attention_mask,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_id,
            eos_token_id=self.ends,
            **{"do_sample": False, "num_beams": 1, **options},
        )
        return out[:, inputs.ids.shape[1] :] if isinstance(out, Tensor) else out

    def _after_prompts(self, embeddings: Any, attention_mask: Tensor, hold: Hold) -> ScorePart:
        """Returns a function that scores candidates (N,), each behind its whole prompt, padded on the right."""
        inputs: VisionInputs = embeddings
        starts = [int(row.argmax()) for row in attention_mask]

        def score(part: Tensor, said: list[Tensor]) -> Tensor:
            chosen = part.tolist()
            said = [ids.to(part.device) for ids in said]
            prompts = [inputs.ids[row, starts[row] :] for row in chosen]
            ids = _padded(prompts, said)
            types = _padded([inputs.types[row, starts[row] :] for row in chosen], said, 0)
            mask = _padded([attention_mask[row, starts[row] :] for row in chosen], said, 1)
            wanted = torch.zeros_like(mask, dtype=torch.bool)
            for index, (prompt, answer) in enumerate(zip(prompts, said, strict=True)):
                # Logits at t predict token t + 1.
                wanted[index, len(prompt) - 1 : len(prompt) + len(answer) - 1] = True
            options = {**inputs.rows(chosen, ids, types).options(), "attention_mask": mask}
            owners = part[:, None].expand_as(mask)[wanted]
            with hold(part):
                around = partial(hold, owners, True)
                logits, _ = logits_at(self.lm, None, wanted, around, use_cache=False, **options)
            each = log_likelihoods(logits, torch.cat(said))
            return torch.stack([one.sum() for one in each.split([len(answer) for answer in said])])

        return score

    def check_encoders(self, names: Sequence[str]) -> None:
        """Raises ValueError if there are encoders."""
        if names:
            raise ValueError(
                f"{self.name!r} sees images by a vision tower of its own, and takes no vectors of others: leave out "
                f"`encoders` ({', '.join(names)})"
            )

    def check_samples(self, samples: Callable[[], Iterable[Sample]]) -> None:
        """Refuses samples that cannot be used, before the first is.

        Raises:
            ValueError: one has other media than images, special tokens in its question, placeholders that are not
                those of its images, images where the chat template has no place for them, or no file for an image.
        """
        for sample in samples():
            self.prompts.check_sample(sample, sample.question)
            if sample.placed:
                self.prompts.text(sample, sample.question, None)
            for _, image in sample.all_media:
                if image.path is not None and not image.path.is_file():
                    raise ValueError(
                        f"sample {sample.id} of {sample.benchmark} has no image: there is no file {image.path}; "
                        "check the data root and the annotation file"
                    )

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Writes a Hugging Face folder: all weights in their own type, configuration and processor."""
        self.lm.save_pretrained(folder)
        self.save_tokenizer(folder)

    def save_tokenizer(self, folder: Path) -> None:
        """Writes the processor, and the tokenizer in it, to a folder."""
        self.backend.save_pretrained(str(folder))


def _padded(prompts: Sequence[Tensor], answers: Sequence[Tensor], fill: int | None = None) -> Tensor:
    """Prompts with answers behind them (N, T), padded on the right with zeros.

    Args:
        prompts: values at the prompts' tokens.
        answers: values at the answers' tokens.
        fill: one value for all tokens of the answers, instead.
    """
    ends = answers if fill is None else [torch.full_like(answer, fill) for answer in answers]
    return pad_sequence([torch.cat(pair) for pair in zip(prompts, ends, strict=True)], batch_first=True)
