"""Checks on a small image that a vision-language model is used correctly: results equal its own forward method.

As `octavius.decoder.check` does for language models, so that nothing is inferred from the name of a family: answers
are trained in padded batches and generated in batches padded on the left, with and without an image.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from octavius.decoder.check import differ, in_float32
from octavius.decoder.passes import log_likelihoods
from octavius.decoder.vision_processor import VisionInputs, VisionProcessor, encoded
from octavius.instruction.batch import Example
from octavius.instruction.sample import Media, References, Sample

ANSWER = "A red ball."
NEW = 3
"""Number of tokens that are generated."""


class Checked(Protocol):
    """What is checked: `octavius.decoder.vision_language.VisionLanguageDecoder`."""

    lm: PreTrainedModel
    type_names: tuple[str, ...]

    def inputs(self, batch: Any) -> VisionInputs:
        """See the class."""

    def logits(self, embeddings: Any, attention_mask: Tensor, wanted: Any) -> Tensor:
        """See the class."""

    def generate(self, embeddings: Any, attention_mask: Tensor, max_new_tokens: int, **options: Any) -> Any:
        """See the class."""


@torch.no_grad()
def check_use(decoder: Checked, processor: VisionProcessor) -> str:
    """Compares losses and generated tokens in batches with the model's own forward method on each sample alone.

    Args:
        decoder: the model; its mode is unchanged afterwards.
        processor: its processor.

    Returns:
        Why a sample can have one image at its beginning alone; empty if it can have several.

    Raises:
        ValueError: model and processor do not fit, or results differ.
    """
    lm, backend = decoder.lm, processor.vision_prompts.backend
    training = lm.training
    lm.eval()
    try:
        with in_float32(lm):
            _check_types(decoder, processor)
            reason = processor.vision_prompts.chat.one_image
            if not reason:
                try:
                    _check_results(decoder, processor, [*dialogues(), about_two()])
                except Exception as error:  # whatever a processor or a model raises that takes one image
                    reason = f"a sample of two fails with {type(error).__name__}: {error}"
            if reason:
                _check_results(decoder, processor, dialogues())
            return reason
    except ValueError as error:
        raise ValueError(
            f"{type(lm).__name__} cannot be used with {type(backend).__name__}: {error}"
        ) from None
    except Exception as error:  # a processor of another model, or a model that needs other inputs
        raise ValueError(
            f"{type(lm).__name__} cannot be run on what {type(backend).__name__} makes of an image: "
            f"{type(error).__name__}: {error}. Do the processor's files belong to this model?"
        ) from None
    finally:
        lm.train(training)


def dialogues() -> list[Sample]:
    """A question about a small image, and a longer one without."""
    picture = np.asarray(Image.radial_gradient("L").resize((80, 60)).convert("RGB"))
    asked: list[tuple[str, dict[str, Media]]] = [
        ("What is this?", {"image": Media(array=picture)}),
        ("Which colour has the ball in the corner of the room?", {}),
    ]
    return [
        Sample(f"check{index}", "conversation", "check", media, question, References(("",)))
        for index, (question, media) in enumerate(asked)
    ]


def about_two() -> Sample:
    """A question about two small images, the second between its words."""
    [first, _] = dialogues()
    image = first.media["image"]
    turned = Media(array=np.rot90(np.asarray(image.array)).copy())
    placed = (("image", image), ("image", turned))
    question = "<image>Is this the same as <image> there?"
    return Sample("check2", "conversation", "check", {}, question, References(("",)), placed=placed)


def _check_types(decoder: Checked, processor: VisionProcessor) -> None:
    prompts = processor.vision_prompts
    sample = dialogues()[0]
    picture = processor.pictures(sample.media["image"])
    out = encoded(prompts.backend, [prompts.text(sample, sample.question, None)], [[picture]])
    image = (out["input_ids"] == prompts.image_id).long()
    for name in decoder.type_names:
        if not torch.equal(out[name].long(), image):
            raise ValueError(f"its {name} tell more than image tokens from text, which is not supported")


def _check_results(decoder: Checked, processor: VisionProcessor, samples: Sequence[Sample]) -> None:
    _check_losses(decoder, processor, samples)
    _check_answers(decoder, processor, samples)


def _check_losses(decoder: Checked, processor: VisionProcessor, samples: Sequence[Sample]) -> None:
    examples = _examples(processor, samples, ANSWER)
    expected = torch.cat([_own(decoder, processor, example) for example in examples])
    batch = processor.collate(examples).to(decoder.lm.device)
    labels = batch.labels[:, 1:]
    wanted = torch.nn.functional.pad(labels >= 0, (0, 1))
    logits = decoder.logits(decoder.inputs(batch), batch.attention_mask, wanted)
    found = log_likelihoods(logits, labels[labels >= 0])
    if differ(decoder.lm, found, expected):
        raise ValueError(
            f"the loss of answers in a padded batch is {-float(found.mean()):.3f}, the model's own "
            f"{-float(expected.mean()):.3f}"
        )


def _check_answers(decoder: Checked, processor: VisionProcessor, samples: Sequence[Sample]) -> None:
    examples = _examples(processor, samples, None)
    batch = processor.collate(examples).to(decoder.lm.device)
    options = {"min_new_tokens": NEW, "output_logits": True, "return_dict_in_generate": True}
    out: Any = decoder.generate(decoder.inputs(batch), batch.attention_mask, NEW, **options)
    new = out.sequences[:, batch.input_ids.shape[1] :]
    for row, example in enumerate(examples):
        steps = torch.stack([step[row] for step in out.logits])
        found = log_likelihoods(steps, new[row].to(steps.device))
        expected = _own(decoder, processor, example, new[row].tolist())
        if differ(decoder.lm, found, expected):
            raise ValueError(
                f"{NEW} tokens that it generates in a batch padded on the left have the log-probability "
                f"{float(found.sum()):.3f}, and by its own forward method {float(expected.sum()):.3f}"
            )


def _examples(processor: VisionProcessor, samples: Sequence[Sample], answer: str | None) -> list[Example]:
    return [processor.build_example(sample, sample.question, answer) for sample in samples]


def _own(
    decoder: Checked, processor: VisionProcessor, example: Example, answer: Sequence[int] = ()
) -> Tensor:
    """Log-probabilities (N,) of an answer by the model's own forward method on one sample.

    Args:
        decoder: the model.
        processor: its processor.
        example: the sample.
        answer: token ids of the answer, unless the example has one.
    """
    start, ids = example.prompt.answer_start, [*example.prompt.ids, *answer]
    batch = processor.collate([example]).to(decoder.lm.device)
    inputs, row = decoder.inputs(batch), torch.tensor([ids], device=decoder.lm.device)
    types = torch.zeros_like(row)
    types[:, : inputs.types.shape[1]] = inputs.types
    options = inputs.rows([0], row, types).options()
    logits = decoder.lm(**options, use_cache=False).logits[0, start - 1 : -1]
    return log_likelihoods(logits, row[0, start:])
