"""A checkpoint, an image file and a question come in, an answer and the experts that gave it go out."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import ArgumentParser

from octavius.instruction.sample import Media, References, Sample
from octavius.presets import find_checkpoint
from octavius.training import OctaviusModule
from octavius.weights import read_checkpoint
from octavius.words import missing_config, read_config, saved_config


def predict(
    question: str,
    image: Path | None = None,
    ckpt: str = "last.ckpt",
    max_new_tokens: int = 128,
    num_beams: int = 1,
) -> None:
    """Answers a question about an image file from a checkpoint.

    Args:
        question: what to ask; options may follow on a line of their own, lettered as (A) red (B) blue.
        image: the picture; leave it out for a question about none.
        ckpt: a checkpoint of `octavius fit`, with its configuration beside it.
        max_new_tokens: the longest answer.
        num_beams: beams of the search; 1 is greedy.
    """
    if not question.strip():
        raise ValueError('the question is empty; ask something, such as --question "Describe the picture."')
    if image is not None and not image.is_file():
        raise ValueError(f"there is no image file at {image.absolute()}; check --image")
    module = load(find_checkpoint(ckpt))
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    text, gate = ask(module.to(device or "cpu"), question, image, max_new_tokens, num_beams)
    print(text)
    if gate is not None and len(gate) > 1:
        used = (f"{place} ({weight:.2f})" for place, weight in enumerate(gate) if weight > 0)
        print(f"experts: {', '.join(used)}")


def load(path: Path) -> OctaviusModule:
    """Builds the model of the configuration beside a checkpoint and fills in what was trained.

    Raises:
        ValueError: no configuration beside it, or a checkpoint of another model.
    """
    config = saved_config(path)
    read_checkpoint(path)
    if config is None:
        raise ValueError(missing_config(path))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(OctaviusModule, "model")
    model = parser.parse_object({"model": read_config(config).get("model")})
    module: OctaviusModule = parser.instantiate(model).model
    module.load_state_dict(matching(path, module)["state_dict"], strict=False)
    return module.eval()


def matching(path: Path, module: L.LightningModule) -> dict[str, Any]:
    """A checkpoint, when it is of this very model.

    Raises:
        ValueError: it cannot be read, or is of another model.
    """
    checkpoint = read_checkpoint(path)
    try:
        module.on_load_checkpoint(checkpoint)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return checkpoint


def ask(
    module: OctaviusModule, question: str, image: Path | None, max_new_tokens: int = 128, num_beams: int = 1
) -> tuple[str, list[float] | None]:
    """One answer, and the routing weights of the experts."""
    media = {} if image is None else {"image": Media(path=Path(image))}
    sample = Sample("question", "conversation", "demo", media, question, References(("",)))
    module.model.prepare(lambda: [sample], module.device)
    batch = module.processor.collate([module.processor.example(sample, question, None)])
    with torch.inference_mode():
        texts, gate = module.answer(batch.to(module.device), max_new_tokens, num_beams=num_beams)
    return texts[0], None if gate is None else gate[0].tolist()
