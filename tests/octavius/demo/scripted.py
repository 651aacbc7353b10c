"""An engine that gives scripted answers to scripted questions, and media to ask about."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from octavius.demo.asking import Asked
from octavius.demo.callbacks import Callbacks
from octavius.demo.examples import Example
from octavius.instruction.sample import Media
from octavius.serve.rows import Answer, Question

ANSWERS = {
    "Find all objects.": "ball [0.10, 0.10, 0.50, 0.50], <b>box</b> [0.55, 0.50, 0.95, 0.98]",
    "Describe the picture.": "A red ball & a *blue* box.",
    "Describe all objects.": "A red chair. [0.50, 0.50, 0.50, 0.60, 0.60, 1.00]; "
    "A table. [2.00, 1.50, 0.40, 1.20, 0.80, 0.80]",
}
GATE = (0.75, 0.25, 0.0)


class ScriptedEngine:
    """Answers word by word; with forced experts it says which.

    Attributes:
        asked: the questions.
    """

    batch_size = 4

    def __init__(self, experts: int = 3, modalities: tuple[str, ...] = ("image", "cloud")) -> None:
        """Makes an engine of a model with some experts, or none."""
        self.asked: list[Question] = []
        self.experts = experts
        gate = SimpleNamespace(counts=(experts,)) if experts else None
        self.modalities = modalities
        model = SimpleNamespace(gate=gate, check_forced=self._check_forced)
        self.module = SimpleNamespace(model=model)

    def _check_forced(self, weights: Any) -> None:
        if not self.experts:
            raise ValueError("this model has no experts, so that none can be chosen")
        assert len(weights) == self.experts

    def stream(self, question: Question) -> Iterator[Answer]:
        """The states of the answer."""
        self.asked.append(question)
        if question.text == "fail":
            raise ValueError("the conversation has more than 2,048 tokens <b>")
        if question.text == "crash":
            raise RuntimeError("a bug")
        weights = (question.experts or GATE) if self.experts else None
        words = ANSWERS.get(question.text, "I do not know.").split(" ")
        if question.experts is not None and "objects" not in question.text:
            words = ["Expert", str(question.experts.index(max(question.experts))), "says:", *words]
        for place in range(len(words)):
            last = place == len(words) - 1
            text = " ".join(words[: place + 1])
            yield Answer(text, place + 1, 10, weights, "stop" if last else None)
            time.sleep(0.01)


def write_media(folder: Path) -> tuple[Path, Path]:
    """A picture and a cloud."""
    image = np.full((90, 120, 3), 235, np.uint8)
    image[10:45, 12:60] = (200, 40, 30)
    image[46:88, 66:114] = (40, 60, 200)
    Image.fromarray(image).save(folder / "things.png")
    rng = np.random.default_rng(0)
    floor = np.concatenate([rng.random((3000, 2)) * (3, 2.5), np.zeros((3000, 1))], axis=1)
    chair = rng.random((1500, 3)) * (0.6, 0.6, 1.0) + (0.2, 0.2, 0.0)
    table = rng.random((1500, 3)) * (1.2, 0.8, 0.8) + (1.4, 1.1, 0.0)
    colours = np.repeat([[0.7, 0.6, 0.5], [0.8, 0.2, 0.2], [0.3, 0.5, 0.8]], [3000, 1500, 1500], axis=0)
    cloud = np.concatenate([np.concatenate([floor, chair, table]), colours], axis=1)
    np.save(folder / "room.npy", cloud.astype(np.float32))
    return folder / "things.png", folder / "room.npy"


def scripted(folder: Path, other: bool = False, **settings: Any) -> Callbacks:
    """Callbacks over a scripted engine, with an example of a picture and one of a cloud."""
    image, cloud = write_media(folder)
    examples = [
        Example(
            "held_out/detection",
            "detection",
            "Find all objects.",
            "ball",
            {"image": Media(path=image)},
            False,
        ),
        Example(
            "held_out/captioning",
            "captioning",
            "Describe the picture.",
            "a ball",
            {"image": Media(path=image)},
            False,
        ),
        Example(
            "rooms/dense",
            "dense_captioning3d",
            "Describe all objects.",
            "chairs",
            {"cloud": Media(path=cloud)},
            False,
        ),
    ]
    engines: list[Any] = [ScriptedEngine(**settings) for _ in range(1 + other)]
    asked = [
        Asked(name, engine) for name, engine in zip(("first.ckpt", "second.ckpt"), engines, strict=False)
    ]
    return Callbacks(*asked, examples=examples, shown=examples)
