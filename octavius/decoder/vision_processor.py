"""Samples for a vision-language model: prompts and images go through the model's own processor.

The processor turns the text of the chat template, with an image placeholder, into token ids with as many image tokens
as that image has vectors; and the image into tensors whose names and shapes differ by family. Here they are one
dictionary per image, joined when a batch is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from octavius.instruction.batch import Batch, Example, MediaLoader, Processor
from octavius.instruction.prompt import Prompt, PromptBuilder, check_texts
from octavius.instruction.sample import Media, Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.instruction.vision_chat import ChatText, chat_text
from octavius.media.images import image_of

TYPES = ("token_type_ids", "mm_token_type_ids")
"""Names under which models take the type of each token: 1 for those of images, 0 for text."""

TEXT = ("input_ids", "attention_mask", "labels", *TYPES)
"""What a processor returns about the text; all else is about the image."""


@dataclass(frozen=True)
class ImageTensors:
    """What the processor made of the images of a batch, one dictionary for each image, each without batch mates."""

    images: tuple[dict[str, Tensor], ...]

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return next(iter(self.images[0].values())).device

    def to(self, device: torch.device | str, **options: Any) -> "ImageTensors":
        """The images on a device."""
        moved = ({name: part.to(device, **options) for name, part in one.items()} for one in self.images)
        return ImageTensors(tuple(moved))

    def __getitem__(self, order: Tensor) -> "ImageTensors":
        """The images in another order.

        Raises:
            ValueError: images differ in their shapes, and with them in their numbers of image tokens.
        """
        shapes = {tuple((name, part.shape) for name, part in sorted(one.items())) for one in self.images}
        if len(shapes) > 1:
            raise ValueError(
                "images of different sizes cannot be exchanged, as this model gives them different numbers of image "
                "tokens; leave out the control `shuffled`"
            )
        return ImageTensors(tuple(self.images[index] for index in order.tolist()))

    def joined(self, chosen: Sequence[int]) -> dict[str, Tensor]:
        """The chosen images as one input of the model: concatenated, smaller ones padded with zeros."""
        images = [self.images[index] for index in chosen]
        return {name: _concatenated([one[name] for one in images]) for name in (images[0] if images else ())}


def _concatenated(parts: Sequence[Tensor]) -> Tensor:
    """Concatenates tensors in their first dimension, after padding the others with zeros to the largest."""
    sizes = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    padded = []
    for part in parts:
        missing = [size - own for size, own in zip(sizes, part.shape[1:], strict=True)]
        padded.append(F.pad(part, [amount for size in reversed(missing) for amount in (0, size)]))
    return torch.cat(padded)


@dataclass(frozen=True)
class VisionInputs:
    """What a vision-language model is run on.

    Attributes:
        ids: (B, T) token ids with image tokens.
        types: (B, T) 1 at image tokens, 0 elsewhere.
        type_names: names under which the model takes `types`.
        owners: for each image the row that it belongs to.
        images: the images, in the order of `owners`.
    """

    ids: Tensor
    types: Tensor
    type_names: tuple[str, ...]
    owners: list[int]
    images: ImageTensors

    @staticmethod
    def of(batch: Batch, type_names: tuple[str, ...], pad_id: int) -> "VisionInputs":
        """The inputs of a batch; images whose tokens are masked (a blind control) are left out."""
        ids, types = batch.input_ids, torch.zeros_like(batch.input_ids)
        if "image" not in batch.slots:
            return VisionInputs(ids, types, type_names, [], ImageTensors(()))
        rows, columns = batch.slots["image"].unbind(1)
        owners: list[int] = rows.unique().tolist()
        seen = batch.attention_mask[rows, columns] > 0
        ids = ids.index_put((rows[~seen], columns[~seen]), ids.new_tensor(pad_id))
        types = types.index_put((rows[seen], columns[seen]), types.new_tensor(1))
        kept = set(rows[seen].tolist())
        images = tuple(
            one for row, one in zip(owners, batch.media["image"].images, strict=True) if row in kept
        )
        return VisionInputs(
            ids, types, type_names, [row for row in owners if row in kept], ImageTensors(images)
        )

    def options(self) -> dict[str, Tensor]:
        """Arguments of the model's forward method."""
        types = dict.fromkeys(self.type_names, self.types)
        return {"input_ids": self.ids, **types, **self.images.joined(range(len(self.owners)))}

    def rows(self, chosen: Sequence[int], ids: Tensor, types: Tensor) -> "VisionInputs":
        """The inputs of chosen rows, which may repeat, with other token ids and types (N, T)."""
        places = {row: place for place, row in enumerate(self.owners)}
        owners = [new for new, row in enumerate(chosen) if row in places]
        images = tuple(self.images.images[places[row]] for row in chosen if row in places)
        return VisionInputs(ids, types, self.type_names, owners, ImageTensors(images))


class PictureLoader(MediaLoader):
    """Opens images for a processor, which resizes them itself."""

    def __call__(self, media: Media) -> Image.Image:
        """The image, RGB.

        Raises:
            ValueError: it cannot be read.
        """
        return image_of(media)

    def collate(self, items: Sequence[dict[str, Tensor]]) -> ImageTensors:
        """Keeps what the processor made of each image."""
        return ImageTensors(tuple(items))


class VisionPromptBuilder(PromptBuilder):
    """Writes prompts by the chat template of a vision-language model, with image tokens as slots."""

    def __init__(self, backend: Any, image_id: int, max_tokens: int) -> None:
        """Derives the chat's text.

        Args:
            backend: the processor of transformers.
            image_id: id of the tokens whose embeddings the model replaces by the image's.
            max_tokens: largest length of a prompt with its answer, image tokens included.

        Raises:
            ValueError: the processor has no chat template that can be used.
        """
        self.backend, self.image_id = backend, image_id
        self.chat = chat_of(backend)
        tokenizer = Tokenizer(backend.tokenizer, backend.tokenizer.convert_tokens_to_ids(self.chat.end))
        example = self.encode(self.chat.question("What is this?", (), image=True), Image.new("RGB", (64, 64)))
        super().__init__(tokenizer, {"image": example[0].count(image_id)}, max_tokens=max_tokens)
        added = tokenizer.backend.added_tokens_decoder.values()
        # Text that a processor would take for its own, wherever it stands.
        self._special = {token.content for token in added if token.special} | {backend.image_token}
        # Few texts hold one of these characters; some tokenizers have thousands of special tokens.
        self._firsts = {token[0] for token in self._special}

    def saved(self) -> dict[str, Any]:
        """No template: the processor has its own."""
        return {"template": None, "test_template": None}

    def build(self, sample: Sample, question: str, answer: str | None) -> Prompt:
        """Builds a prompt without opening the image, which counts as a small square one.

        Raises:
            ValueError: see `text`.
            TooLongError: the prompt has more than `max_tokens`.
        """
        picture = Image.new("RGB", (64, 64)) if "image" in sample.media else None
        return self.with_picture(sample, question, answer, picture)[0]

    def with_picture(
        self, sample: Sample, question: str, answer: str | None, picture: Image.Image | None
    ) -> tuple[Prompt, dict[str, Tensor]]:
        """Builds a prompt for an opened image, and what the processor made of that.

        Raises:
            ValueError: see `text`; or the processor refuses the image.
            TooLongError: the prompt has more than `max_tokens`.
        """
        text = self.text(sample, question, answer)
        try:
            ids, tensors = self.encode(text, picture)
        except Exception as error:  # processors raise all kinds of errors on images of odd shapes
            raise ValueError(
                f"sample {sample.id}: {type(self.backend).__name__} cannot read it: {error}"
            ) from None
        start = len(ids)
        if answer is not None:
            ids = [*ids, *self.answer_ids(answer)]
        self._check_length(ids, start, sample)
        slots = [index for index, token in enumerate(ids[:start]) if token == self.image_id]
        if bool(slots) != (picture is not None):
            raise ValueError(
                f"sample {sample.id}: the processor gave it {len(slots)} image tokens, and it has "
                f"{'no' if picture is None else 'an'} image"
            )
        asked = self.tokenizer.encode(f" {question}")
        media = {"image": slots} if slots else {}
        return Prompt(ids, start, media, asked, question=question, gate_text=question), tensors

    def text(self, sample: Sample, question: str, answer: str | None) -> str:
        """The text of a prompt up to its answer.

        Raises:
            ValueError: the question or answer is empty or holds a special token, such as an image placeholder, or
                the sample has media other than one image.
        """
        check_texts(sample, question, answer)
        self.check_sample(sample, question, answer or "")
        return self.chat.question(question, sample.history, "image" in sample.media)

    def check_sample(self, sample: Sample, *texts: str) -> None:
        """Refuses a sample with other media than an image, or with special tokens in its texts.

        Raises:
            ValueError: it has such.
        """
        for modality in sample.media:
            self._tags_of(modality, sample, self.template)  # raises for others than `image`
        written = [*texts, *(part for turn in sample.history for part in turn)]
        for text in written:
            if self._firsts.isdisjoint(text):
                continue
            if found := sorted(token for token in self._special if token in text):
                image = self.backend.image_token in found
                advice = (
                    "the image is placed by itself: leave the placeholder out"
                    if image and "image" in sample.media
                    else "the sample has no image; leave the placeholder out, or give the image"
                    if image
                    else "leave it out"
                )
                raise ValueError(
                    f"sample {sample.id}: {text!r:.80} holds {found[0]!r}, which the model's processor takes for a "
                    f"special token; {advice}"
                )

    def encode(self, text: str, picture: Image.Image | None) -> tuple[list[int], dict[str, Tensor]]:
        """Token ids of a text with its image placeholder expanded, and the tensors of the image."""
        out = encoded(self.backend, [text], None if picture is None else [[picture]])
        ids: list[int] = out["input_ids"][0].tolist()
        return ids, {name: part for name, part in out.items() if name not in TEXT}

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer behind its prompt, with the token that ends it.

        They are those that the tokenizer gives both together, unless it joins a token across their border.
        """
        header, said = self.chat.assistant, self.chat.before_answer + answer
        before, whole = (self.tokenizer.encode(text, special=True) for text in (header, header + said))
        kept = whole[: len(before)] == before
        ids = whole[len(before) :] if kept else self.tokenizer.encode(said)
        return [*ids, self.tokenizer.eos_id]


class VisionProcessor(Processor):
    """Turns samples into examples with the processor of a vision-language model."""

    def __init__(self, backend: Any, image_id: int, max_tokens: int) -> None:
        """Takes the arguments of `VisionPromptBuilder`."""
        self.vision_prompts = VisionPromptBuilder(backend, image_id, max_tokens)
        self.pictures = PictureLoader()
        super().__init__(self.vision_prompts, {"image": self.pictures})

    def build_example(self, sample: Sample, question: str, answer: str | None) -> Example:
        """Opens the image of a sample, and builds its prompt.

        Raises:
            ValueError: the prompt cannot be built or the image cannot be read; the message names the sample.
        """
        self.vision_prompts.check_sample(sample, question, answer or "")
        picture = None
        if "image" in sample.media:
            try:
                picture = self.pictures(sample.media["image"])
            except ValueError as error:
                raise ValueError(f"sample {sample.id} of {sample.benchmark}: {error}") from None
        prompt, tensors = self.vision_prompts.with_picture(sample, question, answer, picture)
        return Example(sample, prompt, {"image": tensors} if picture is not None else {})


def encoded(backend: Any, texts: Sequence[str], images: Sequence[Any] | None) -> Mapping[str, Tensor]:
    """Runs a processor as its `apply_chat_template` does: a text that begins with the bos token gets no other."""
    bos = backend.tokenizer.bos_token
    special = not (bos is not None and texts[0].startswith(bos))
    options = {"add_special_tokens": special, "return_tensors": "pt"}
    out: Mapping[str, Tensor] = backend(text=list(texts), images=images, **options)
    return {name: part for name, part in out.items() if isinstance(part, Tensor)}


def chat_of(backend: Any) -> ChatText:
    """The chat's text of a processor.

    Raises:
        ValueError: it has no chat template, or one that cannot be used.
    """
    template = getattr(backend, "chat_template", None) or getattr(backend.tokenizer, "chat_template", None)
    template = template.get("default") if isinstance(template, dict) else template
    if not template:
        raise ValueError(
            f"{type(backend).__name__} has no chat template, by which prompts are written; take an instruction-tuned "
            "model, or put a chat_template.jinja into its folder"
        )
    return chat_text(backend.tokenizer, template, backend.image_token)
