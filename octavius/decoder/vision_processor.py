"""Samples for a vision-language model: prompts and images go through the model's own processor.

The processor turns the text of the chat template, with image placeholders, into token ids with as many image tokens
as each image has vectors; and the images into tensors whose names and shapes differ by family. Here they are one
dictionary for the images of a sample, joined when a batch is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from octavius.instruction.batch import Batch, Example, Processor
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.placement import modalities_of, split, turns, words
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
    """What the processor made of the images of a batch: one dictionary for each sample that has some."""

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
        """The images of one-image samples in another order.

        Raises:
            ValueError: images differ in their shapes, and with them in their numbers of image tokens, or a sample
                has several.
        """
        if len(order) != len(self.images):
            raise ValueError(
                "images cannot be exchanged between samples with several; leave out the control `shuffled`"
            )
        shapes = {tuple((name, part.shape) for name, part in sorted(one.items())) for one in self.images}
        if len(shapes) > 1:
            raise ValueError(
                "images of different sizes cannot be exchanged, as this model gives them different numbers of image "
                "tokens; leave out the control `shuffled`"
            )
        return ImageTensors(tuple(self.images[index] for index in order.tolist()))

    def joined(self, chosen: Sequence[int]) -> dict[str, Tensor]:
        """The images of the chosen samples as one input of the model: concatenated, padded with zeros."""
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
        owners: the rows that have images.
        images: the images of each of these rows.
    """

    ids: Tensor
    types: Tensor
    type_names: tuple[str, ...]
    owners: list[int]
    images: ImageTensors

    @staticmethod
    def of(batch: Batch, type_names: tuple[str, ...], pad_id: int) -> "VisionInputs":
        """The inputs of a batch; images of rows whose image tokens are masked (a blind control) are left out."""
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

    def __init__(self, backend: Any, image_id: int, max_tokens: int, one_image: str = "") -> None:
        """Derives the chat's text.

        Args:
            backend: the processor of transformers.
            image_id: id of the tokens whose embeddings the model replaces by the image's.
            max_tokens: largest length of a prompt with its answer, image tokens included.
            one_image: why the model takes one image only, see `ChatText`; empty to go by the chat template.

        Raises:
            ValueError: the processor has no chat template that can be used.
        """
        self.backend, self.image_id = backend, image_id
        self.chat = chat_of(backend)
        if one_image:
            self.chat = replace(self.chat, one_image=one_image)
        tokenizer = Tokenizer(backend.tokenizer, backend.tokenizer.convert_tokens_to_ids(self.chat.end))
        example = self.encode(self.chat.question([("", "What is this?")]), [small_image()])
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
        """Builds a prompt without opening the images, which count as small square ones.

        Raises:
            ValueError: see `text`.
            TooLongError: the prompt has more than `max_tokens`.
        """
        return self.with_pictures(sample, question, answer, [small_image() for _ in sample.all_media])[0]

    def with_pictures(
        self, sample: Sample, question: str, answer: str | None, pictures: Sequence[Image.Image]
    ) -> tuple[Prompt, dict[str, Tensor]]:
        """Builds a prompt for opened images, and what the processor made of those.

        Raises:
            ValueError: see `text`; or the processor refuses an image.
            TooLongError: the prompt has more than `max_tokens`.
        """
        text = self.text(sample, question, answer)
        try:
            ids, tensors = self.encode(text, pictures)
        except Exception as error:  # processors raise all kinds of errors on images of odd shapes
            raise ValueError(
                f"sample {sample.id}: {type(self.backend).__name__} cannot read it: {error}"
            ) from None
        start = len(ids)
        if answer is not None:
            ids = [*ids, *self.answer_ids(answer)]
        self._check_length(ids, start, sample)
        slots = [index for index, token in enumerate(ids[:start]) if token == self.image_id]
        if bool(slots) != bool(pictures):
            raise ValueError(
                f"sample {sample.id}: the processor gave it {len(slots)} image tokens, and it has "
                f"{len(pictures) or 'no'} image{'s' if len(pictures) > 1 else ''}"
            )
        read = words(question, modalities_of(sample))
        asked = self.tokenizer.encode(f" {read}")
        media = {"image": slots} if slots else {}
        return Prompt(ids, start, media, asked, question=question, gate_text=read), tensors

    def text(self, sample: Sample, question: str, answer: str | None) -> str:
        """The text of a prompt up to its answer.

        Raises:
            ValueError: the question or answer is empty or holds a special token, the sample has media other than
                images, the placeholders in its texts are not those of its images, or the chat template has no place
                for these.
        """
        check_texts(sample, question, answer)
        self.check_sample(sample, question, answer or "")
        asked = [parts[::2] for parts in turns(sample, question)]
        if "image" in sample.media:
            asked[0] = ["", *asked[0]]
        try:
            return self.chat.question(asked, [answered for _, answered in sample.history])
        except ValueError as error:
            raise ValueError(f"sample {sample.id}: {error}") from None

    def check_sample(self, sample: Sample, *texts: str) -> None:
        """Refuses a sample with other media than images, or with special tokens in its texts.

        Raises:
            ValueError: it has such.
        """
        for modality, _ in sample.all_media:
            self._tags_of(modality, sample, self.template)  # raises for others than `image`
        modalities = modalities_of(sample)
        for whole in (*texts, *(part for turn in sample.history for part in turn)):
            if self._firsts.isdisjoint(whole):
                continue
            # The placeholder of an image may be a special token too.
            text = " ".join(split(whole, modalities)[::2])
            if found := sorted(token for token in self._special if token in text):
                image = self.backend.image_token in found
                advice = (
                    "the image is placed by itself: leave the placeholder out"
                    if image and sample.media
                    else "the sample has no image; leave the placeholder out, or give the image"
                    if image
                    else "leave it out"
                )
                raise ValueError(
                    f"sample {sample.id}: {text!r:.80} holds {found[0]!r}, which the model's processor takes for a "
                    f"special token; {advice}"
                )

    def encode(self, text: str, pictures: Sequence[Image.Image]) -> tuple[list[int], dict[str, Tensor]]:
        """Token ids of a text with its image placeholders expanded, and the tensors of the images."""
        out = encoded(self.backend, [text], [list(pictures)] if pictures else None)
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

    def __init__(self, backend: Any, image_id: int, max_tokens: int, one_image: str = "") -> None:
        """Takes the arguments of `VisionPromptBuilder`."""
        self.vision_prompts = VisionPromptBuilder(backend, image_id, max_tokens, one_image)
        self.pictures = PictureLoader()
        super().__init__(self.vision_prompts, {"image": self.pictures})

    def build_example(self, sample: Sample, question: str, answer: str | None) -> Example:
        """Opens the images of a sample, and builds its prompt.

        Raises:
            ValueError: the prompt cannot be built or an image cannot be read; the message names the sample.
        """
        self.vision_prompts.check_sample(sample, question, answer or "")
        try:
            media = self.load(sample)
        except ValueError as error:
            raise ValueError(f"sample {sample.id} of {sample.benchmark}: {error}") from None
        return self.assemble(sample, question, answer, media)

    def assemble(
        self, sample: Sample, question: str, answer: str | None, media: dict[str, list[Any]]
    ) -> Example:
        """The example of a sample whose images are opened.

        Raises:
            ValueError: the prompt cannot be built.
        """
        pictures = media.get("image", [])
        prompt, tensors = self.vision_prompts.with_pictures(sample, question, answer, pictures)
        return Example(sample, prompt, {"image": [tensors]} if pictures else {})


def small_image() -> Image.Image:
    """A stand-in for an image of unknown size."""
    return Image.new("RGB", (64, 64))


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
