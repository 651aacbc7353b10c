"""Vision-language models against their own forward and generate, by their own processor, for each family."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.evaluation.controls import shuffled, text_only
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Media, References, Sample
from octavius.lora_moe import LoRAMoEConfig
from octavius.lora_moe.layer import LoRAMoELinear
from octavius.lora_moe.merge import merge
from octavius.model import Octavius
from tests.tiny_vision import FAMILIES, write

QUESTIONS = ("What is this?", "Describe the picture, please: what colour has the ball?")
SIZES = ((80, 60), (30, 90))
"""Width and height: of two shapes, for which most families take different numbers of image tokens."""
NEW = 8

TARGETS = ["q_proj", "v_proj"]
"""Layers of this name are in the vision towers of most families too."""

QUICK = ("smolvlm", "qwen2_5_vl")
NEEDS = {"smolvlm2": "num2words"}
"""Packages that the processor of a family needs."""

BY_FAMILY = pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in FAMILIES],
)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes the model of a family at its first use."""
    written: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family in NEEDS:
            pytest.importorskip(NEEDS[family])
        if family not in written:
            written[family] = write(family, tmp_path_factory.mktemp(family) / "model")
        return written[family]

    return folder


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)) for width, height in SIZES
    ]


def samples(*, image: bool = True) -> list[Sample]:
    shown: list[dict[str, Media]] = [
        {"image": Media(array=np.asarray(one))} if image else {} for one in pictures()
    ]
    return [
        Sample(f"s{index}", "conversation", "test", media, question, References(("A red ball.",)))
        for index, (media, question) in enumerate(zip(shown, QUESTIONS, strict=True))
    ]


def model_of(folder: Path, nonzero: bool = False, **options: Any) -> Octavius:
    """A model with three experts, in eval mode; their B is zero, or random."""
    torch.manual_seed(0)
    lora = LoRAMoEConfig(3, rank=2, alpha=4.0, dropout=0.0, targets=TARGETS)
    model = Octavius(VisionLanguageDecoder(str(folder), **options), {}, lora).eval()
    for name, part in model.named_parameters():
        if name.endswith("lora_B") and nonzero:
            torch.nn.init.normal_(part, std=0.3)
    return model


def batch_of(model: Octavius, chosen: list[Sample], answer: str | None = None) -> Batch:
    processor = model.processor()
    return processor.collate([processor.build_example(one, one.question, answer) for one in chosen])


def plain_inputs(folder: Path, image: bool) -> Any:
    """Both questions in one batch padded on the left, by the processor's `apply_chat_template`."""
    said = [
        [
            {
                "role": "user",
                "content": [
                    *([{"type": "image", "image": one}] if image else []),
                    {"type": "text", "text": question},
                ],
            }
        ]
        for one, question in zip(pictures(), QUESTIONS, strict=True)
    ]
    return by_template(folder, said)


def by_template(folder: Path, said: list[list[dict[str, Any]]]) -> Any:
    """Dialogues in one batch padded on the left, by the processor's `apply_chat_template`."""
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    return processor.apply_chat_template(
        said,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )


@torch.no_grad()
def compared(folder: Path, model: Octavius, image: bool) -> tuple[list[int], float, bool]:
    """Image tokens of each sample, the largest difference of logits, and whether all generated tokens are equal."""
    plain = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = plain_inputs(folder, image)
    batch = batch_of(model, samples(image=image))
    mask = inputs["attention_mask"]
    assert torch.equal(batch.input_ids[batch.attention_mask > 0], inputs["input_ids"][mask > 0])
    decoder, prepared = model.decoder, model.embed(batch)
    # Text alone gets no positions from some families where it is padded on the left, so each row is run alone.
    expected = (
        plain(**inputs).logits[mask > 0]
        if image
        else torch.cat(
            [
                plain(input_ids=ids[real > 0][None]).logits[0]
                for ids, real in zip(inputs["input_ids"], mask, strict=True)
            ]
        )
    )
    if not image:
        processor = model.processor()
        examples = [processor.build_example(one, one.question, "A") for one in samples(image=False)]
        right = processor.collate(examples)
        wanted = torch.zeros_like(right.attention_mask, dtype=torch.bool)
        for row, example in enumerate(examples):
            wanted[row, : example.prompt.answer_start] = True
        with model.routing.use(model.route(right)):  # type: ignore[arg-type]
            found = decoder.logits(model.embed(right), right.attention_mask, wanted)
    else:
        with model.routing.use(model.route(batch)):  # type: ignore[arg-type]
            found = decoder.logits(prepared, batch.attention_mask, batch.attention_mask > 0)
    ends = {"eos_token_id": decoder.ends, "pad_token_id": decoder.tokenizer.pad_id}  # type: ignore[attr-defined]
    new = plain.generate(**inputs, max_new_tokens=NEW, do_sample=False, **ends)[
        :, inputs["input_ids"].shape[1] :
    ]
    with model.routing.use(model.route(batch)):  # type: ignore[arg-type]
        ours = decoder.generate(prepared, batch.attention_mask, NEW)
    tokens = [len(example) for example in slots(model, image)]
    return tokens, float((found - expected).abs().max()), torch.equal(new, ours)


def slots(model: Octavius, image: bool) -> list[list[int]]:
    processor = model.processor()
    examples = [processor.build_example(one, one.question, None) for one in samples(image=image)]
    return [example.prompt.slots.get("image", []) for example in examples]


@BY_FAMILY
def test_without_an_update_it_is_the_plain_model(folder_of: Callable[[str], Path], family: str) -> None:
    folder = folder_of(family)
    model = model_of(folder)
    tokens, apart, equal = compared(folder, model, image=True)
    assert min(tokens) > 0
    assert (len(set(tokens)) == 1) is (family in ("llava", "gemma3")), tokens
    assert apart < 1e-4
    assert equal
    none, apart, equal = compared(folder, model, image=False)
    assert none == [0, 0]
    assert apart < 1e-4
    assert equal


@BY_FAMILY
def test_experts_are_in_the_language_part_alone(folder_of: Callable[[str], Path], family: str) -> None:
    model = model_of(folder_of(family))
    layers = [name for name, part in model.decoder.lm.named_modules() if isinstance(part, LoRAMoELinear)]
    assert len(layers) == 2 * len(TARGETS)
    assert not [name for name in layers if "vision" in name or "visual" in name]
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    assert all("lora_" in name or name.startswith("gate.") for name in trained)


@BY_FAMILY
@torch.no_grad()
def test_a_routed_sample_is_the_same_alone_and_merged(folder_of: Callable[[str], Path], family: str) -> None:
    model = model_of(folder_of(family), nonzero=True)
    mixed = [*samples(), *samples(image=False)[:1]]
    batch = batch_of(model, mixed)
    weights = model.route(batch)
    assert isinstance(weights, torch.Tensor)
    assert torch.equal(weights[0], weights[2])  # the same words, with and without an image
    assert not torch.allclose(weights[0], weights[1])
    together, _ = model.generate(batch, NEW)
    losses = model(batch_of(model, mixed, "A red ball."))
    alone = [batch_of(model, [one]) for one in mixed]
    assert [model.generate(one, NEW)[0][0] for one in alone] == together
    answered = [batch_of(model, [one], "A red ball.") for one in mixed]
    assert not torch.allclose(losses.losses[losses.rows == 0], losses.losses[losses.rows == 2], atol=1e-2)
    singles = torch.cat([model(one).losses for one in answered])
    torch.testing.assert_close(losses.losses, singles, atol=1e-4, rtol=0)
    scored = model.likelihoods(batch, [["A red ball.", "no"], [], ["A red ball."]])
    for row, place in ((0, 0), (2, 0)):
        assert scored[row][place][0] == pytest.approx(
            -float(losses.losses[losses.rows == row].sum()), abs=1e-3
        )
    assert scored[1] == []
    merge(model.decoder.lm, weights[0])
    model.lora, model.gate = None, None
    assert model.generate(alone[0], NEW)[0][0] == together[0]
    torch.testing.assert_close(model(answered[0]).losses, losses.losses[losses.rows == 0], atol=1e-4, rtol=0)


def several() -> list[Sample]:
    """Two images and then one in a later turn; and one of two turns with an image each."""
    first, second = (Media(array=np.asarray(one)) for one in pictures())
    turn = ("<image><image>Which is larger?", "The first.")
    gold = References(("A red ball.",))
    shown = {"placed": (("image", first), ("image", second), ("image", first))}
    return [
        Sample("a", "conversation", "test", {}, "<image>And this?", gold, (turn,), **shown),  # type: ignore[arg-type]
        Sample(
            "b",
            "conversation",
            "test",
            {},
            QUESTIONS[0],
            gold,
            (("<image>What?", "A ball."),),
            placed=(("image", second),),
        ),
    ]


def own_messages() -> list[list[dict[str, Any]]]:
    """The dialogues of `several` as messages with content parts."""
    first, second = ({"type": "image", "image": one} for one in pictures())

    def said(role: str, *parts: Any) -> dict[str, Any]:
        words = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
        return {"role": role, "content": words}

    return [
        [
            said("user", first, second, "Which is larger?"),
            said("assistant", "The first."),
            said("user", first, "And this?"),
        ],
        [said("user", second, "What?"), said("assistant", "A ball."), said("user", QUESTIONS[0])],
    ]


@BY_FAMILY
@torch.no_grad()
def test_several_images_and_turns_are_those_of_the_plain_model(
    folder_of: Callable[[str], Path], family: str
) -> None:
    folder = folder_of(family)
    model, plain = model_of(folder), AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = by_template(folder, own_messages())
    batch, mask = batch_of(model, several()), inputs["attention_mask"]
    assert torch.equal(batch.input_ids[batch.attention_mask > 0], inputs["input_ids"][mask > 0])
    decoder = model.decoder
    with model.routing.use(model.route(batch)):  # type: ignore[arg-type]
        found = decoder.logits(model.embed(batch), batch.attention_mask, batch.attention_mask > 0)
        ours = decoder.generate(model.embed(batch), batch.attention_mask, NEW)
    ends = {"eos_token_id": decoder.ends, "pad_token_id": decoder.tokenizer.pad_id}  # type: ignore[attr-defined]
    assert float((found - plain(**inputs).logits[mask > 0]).abs().max()) < 1e-4
    new = plain.generate(**inputs, max_new_tokens=NEW, do_sample=False, **ends)
    assert torch.equal(new[:, inputs["input_ids"].shape[1] :], ours)


@BY_FAMILY
@torch.no_grad()
def test_several_images_alone_and_in_a_mixed_batch(folder_of: Callable[[str], Path], family: str) -> None:
    model = model_of(folder_of(family), nonzero=True)
    mixed = [*several(), *samples(), *samples(image=False)]
    losses = model(batch_of(model, mixed, "A red ball."))
    singles = torch.cat([model(batch_of(model, [one], "A red ball.")).losses for one in mixed])
    torch.testing.assert_close(losses.losses, singles, atol=1e-4, rtol=0)
    scored = model.likelihoods(batch_of(model, mixed[:3]), [["A red ball."]] * 3)
    for row in range(3):
        expected = -float(losses.losses[losses.rows == row].sum())
        assert scored[row][0][0] == pytest.approx(expected, abs=1e-3)


def test_an_image_stands_where_its_placeholder_is(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("smolvlm")
    model = model_of(folder)
    first, second = (Media(array=np.asarray(one)) for one in pictures())
    question = "Compare <image> with <image>, please."
    sample = replace(samples()[0], media={}, question=question, placed=(("image", first), ("image", second)))
    batch = batch_of(model, [sample])
    shown = [{"type": "image", "image": one} for one in pictures()]
    texts = [{"type": "text", "text": text} for text in ("Compare ", " with ", ", please.")]
    content = [texts[0], shown[0], texts[1], shown[1], texts[2]]
    expected = by_template(folder, [[{"role": "user", "content": content}]])
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(
        batch.media["image"].images[0]["pixel_values"], expected["pixel_values"].to(torch.float32)
    )
    read = batch.gate_ids[batch.gate_mask > 0].tolist()
    assert model.decoder.tokenizer.decode(read) == "Compare with , please."
    for placed, said in (((), "special token"), ((("image", first),), "have <image>, <image>, and its")):
        with pytest.raises(ValueError, match=said):
            model.decoder.check_samples(lambda: [replace(sample, placed=placed)])  # noqa: B023


def test_the_gate_reads_the_words_of_the_user_alone(folder_of: Callable[[str], Path]) -> None:
    model = model_of(folder_of("smolvlm"))
    batch = batch_of(model, samples())
    for row, question in enumerate(QUESTIONS):
        read = batch.gate_ids[row][batch.gate_mask[row] > 0].tolist()
        assert model.decoder.tokenizer.decode(read) == question


def test_the_connector_is_trained_on_demand_and_the_tower_never(folder_of: Callable[[str], Path]) -> None:
    model = model_of(folder_of("smolvlm"), train_connector=True).train()
    tower = model.decoder.lm.get_encoder(modality="image")
    assert not tower.training
    for chosen in (samples(), samples(image=False)):  # a batch without images has no hole in its gradients
        model.zero_grad()
        model(batch_of(model, chosen, "A red ball.")).losses.sum().backward()
        trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
        assert any(".connector." in name for name in trained)
        assert not any("vision_model" in name for name in trained)
        assert all(part.grad is not None for name, part in trained.items() if ".connector." in name)


def test_the_blind_controls(folder_of: Callable[[str], Path]) -> None:
    model = model_of(folder_of("qwen2_5_vl"))
    batch = batch_of(model, samples())
    blind = text_only(batch)
    assert "pixel_values" not in model.embed(blind).options()
    assert len(model.generate(blind, 2)[0]) == 2
    with pytest.raises(ValueError, match="different numbers of image tokens"):
        shuffled(batch)
    first, second = samples()
    other = Media(array=255 - np.asarray(first.media["image"].array))
    same = batch_of(model, [first, replace(second, media={"image": other})])
    images, changed = same.media["image"].images, shuffled(same).media["image"].images
    assert torch.equal(changed[0]["pixel_values"], images[1]["pixel_values"])
    assert not torch.equal(changed[0]["pixel_values"], images[0]["pixel_values"])
