"""A checkpoint, an image file and a question come in, an answer and the experts that gave it go out."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentParser

from octavius.instruction.sample import Media, References, Sample
from octavius.presets import find_checkpoint
from octavius.training import OctaviusModule
from octavius.weights import read_checkpoint


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


def saved_config(checkpoint: Path) -> Path | None:
    """The configuration that `octavius fit` wrote beside a checkpoint, if it is still there."""
    path = checkpoint.with_suffix(".yaml")
    return path if path.is_file() else None


def missing_config(checkpoint: Path) -> str:
    """What to say when there is none."""
    beside = checkpoint.with_suffix(".yaml")
    return (
        f"no configuration beside {checkpoint}: expected {beside}, which `octavius fit` writes; copy it too"
    )


def read_config(path: Path) -> dict[str, Any]:
    """What a YAML file of settings says.

    Raises:
        ValueError: it is not YAML, or not a list of keys with their values.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{path} is not valid YAML{where}: {error.problem}; correct it there") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML text: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold keys and their values, such as `model:`, found {content!r:.60}")
    return content


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
