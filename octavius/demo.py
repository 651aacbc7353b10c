"""A checkpoint, an image file and a question come in, an answer and the experts that gave it go out."""

from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from octavius.instruction.sample import Media, References, Sample
from octavius.presets import find_checkpoint
from octavius.training import OctaviusModule
from octavius.weights import read_checkpoint


def predict(
    question: str, image: Path | None = None, ckpt: str = "last.ckpt", max_new_tokens: int = 128, num_beams: int = 1
) -> None:
    """Answers a question about an image file from a checkpoint.

    Args:
        question: what to ask; lettered options may follow as `\\nOptions: (A) red (B) blue`.
        image: the picture; leave it out for a question about none.
        ckpt: a checkpoint of `octavius fit`, with its configuration beside it.
        max_new_tokens: the longest answer.
        num_beams: beams of the search; 1 is greedy.
    """
    module = load(find_checkpoint(ckpt))
    text, gate = ask(module, question, image, max_new_tokens, num_beams)
    print(text)
    if gate is not None and len(gate) > 1:
        print("experts: " + ", ".join(f"{place}: {weight:.2f}" for place, weight in enumerate(gate) if weight > 0))


def load(path: Path) -> OctaviusModule:
    """Builds the model of the configuration beside a checkpoint and fills in what was trained.

    Raises:
        ValueError: no configuration beside it, or a checkpoint of another model.
    """
    checkpoint = read_checkpoint(path)
    config = path.with_suffix(".yaml")
    if not config.is_file():
        raise ValueError(f"no configuration beside {path}: expected {config}, which `octavius fit` writes; copy it too")
    parser = ArgumentParser()
    parser.add_subclass_arguments(OctaviusModule, "model")
    model: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]
    module: OctaviusModule = parser.instantiate_classes(parser.parse_object({"model": model})).model
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=False)
    return module.eval()


def ask(
    module: OctaviusModule, question: str, image: Path | None, max_new_tokens: int = 128, num_beams: int = 1
) -> tuple[str, list[float] | None]:
    """One answer, and the routing weights of the experts."""
    media = {} if image is None else {"image": Media(path=Path(image))}
    sample = Sample("question", "conversation", "demo", media, question, References(("",)))
    batch = module.processor.collate([module.processor.example(sample, question, None)])
    with torch.inference_mode():
        texts, gate = module.answer(batch.to(module.device), max_new_tokens, num_beams=num_beams)
    return texts[0], None if gate is None else gate[0].tolist()
