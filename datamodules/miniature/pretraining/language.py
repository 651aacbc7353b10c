"""Text and symbolic data about the miniature's world, to train its language model without images.

Each scene is either written into the question, or given as a symbolic grid in place of image features. No
scene, pair or wording of a zero-shot set occurs.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

import numpy as np

from datamodules.base import InstructionDataModule
from datamodules.instances import EvalSet, TrainSet
from datamodules.miniature import text
from datamodules.miniature.symbolic import symbols
from datamodules.miniature.vocabulary import build_tokenizer, world_lines
from datamodules.miniature.world import (
    HAIR,
    SHAPES,
    Face,
    Scene,
    generator,
    make_face,
    make_scene,
    make_single,
)
from octavius.boxes import Box
from octavius.files import atomic_write
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Boxes, Choice, ClassName, Gold, LabelledBox, Media, References, Sample
from octavius.limits import COUNT, NOT_NEGATIVE, SEED, SHARE
from octavius.tasks import TASKS

Form = Literal["symbolic", "written"]

EXERCISES = {"compare": text.compare, "attributes": text.attributes}
"""Questions about a whole scene, which practise what multiple-choice questions need for one object."""

KINDS = ("detection", "look_up", *EXERCISES, "captioning", "vqa", "classification", "hair", "smile")

IMAGE_TASKS = ("detection", "captioning", "vqa", "classification", "facial_attributes")
"""Tasks on the miniature's images; the questions of other tasks are not in its vocabulary."""

TOPICS = ("count", *("colour", "object", "side", "level") * 3)
"""Topics of multiple-choice questions to draw from: counting is learned quickly, finding the right object is not."""

HIDING: dict[str, tuple[Literal["shape", "colour"], ...]] = {
    "detection": ("colour",),
    "classification": ("colour",),
    "colour": ("shape",),
    **dict.fromkeys(("look_up", "compare", "side", "level"), ("colour",)),
    **dict.fromkeys(("captioning", "count"), ("shape", "colour")),
}
"""Attributes that may be omitted, by kind of question or topic, without making it unanswerable."""


class WorldQuestions(Sequence[Sample]):
    """A lazy sequence of samples: item i is made on demand from the seed, the stream, the kind, the form and i."""

    def __init__(
        self, seed: int, stream: str, kind: str, form: Form, length: int, hidden: float = 0.0
    ) -> None:
        """Selects one kind of question in one form.

        Args:
            seed: seed of all random choices.
            stream: name of the random stream; keeps training and evaluation scenes apart.
            kind: one of `KINDS`.
            form: `symbolic` passes the scene as features, `written` as text in the question.
            length: number of items.
            hidden: fraction of scenes in which all shapes, or all colours, are hidden, so that the model
                never guesses one from the other.
        """
        self.seed, self.stream, self.kind, self.form, self.length = seed, stream, kind, form, length
        self.hidden = hidden

    def __len__(self) -> int:
        """Number of items."""
        return self.length

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """One sample, or a list of samples for a slice."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self.length))]
        rng = generator(self.seed, f"{self.stream}/{self.kind}/{self.form}", index)
        facts, task, question, gold, group = make_question(self.kind, rng, self.hidden)
        media: dict[str, Media] = {}
        if self.form == "symbolic":
            media["image"] = Media(array=symbols(facts))
        else:
            wording = question or str(rng.choice(TASKS[task].questions))
            written = text.write_face(facts) if isinstance(facts, Face) else text.write_scene(facts)
            question = f"{written}\n{wording}"
        return Sample(f"{self.form}/{self.kind}/{index}", task, self.kind, media, question, gold, group=group)


def make_question(
    kind: str, rng: np.random.Generator, hidden: float = 0.0
) -> tuple[Scene | Face, str, str, Gold, str]:
    """Draws a scene and a question of a kind: (facts, task, question or empty, gold, group)."""
    if kind in ("hair", "smile"):
        face = make_face(rng)
        forms = text.HAIR_QUESTIONS if kind == "hair" else text.SMILE_QUESTIONS
        gold = (
            ClassName(face.hair, HAIR)
            if kind == "hair"
            else ClassName("yes" if face.smile else "no", ("yes", "no"))
        )
        return face, "facial_attributes", str(rng.choice(forms)), gold, kind
    if kind == "classification":
        single = hide(make_single(rng), kind, hidden, rng)
        return single, kind, "", ClassName(single.things[0].shape, SHAPES), ""
    if kind in EXERCISES:
        # Some scenes do not allow the exercise.
        while True:
            scene = hide(make_scene(rng), kind, hidden, rng)
            exercise = EXERCISES[kind](scene, rng)
            if exercise is not None:
                return scene, "conversation", exercise[0], References((exercise[1],)), ""
    if kind == "vqa":
        wanted = str(rng.choice(TOPICS))
        while True:
            scene = make_scene(rng, count=int(rng.integers(2, 5)) if wanted in ("side", "level") else None)
            scene = hide(scene, wanted, hidden, rng)
            asked = text.ask(scene, wanted, rng)
            if asked is not None:
                return scene, kind, asked.text, Choice(asked.options, asked.answer, asked.reason), wanted
    scene = hide(make_scene(rng), kind, hidden, rng)
    if kind == "captioning":
        return scene, kind, "", References(text.captions(scene)), ""
    if kind == "look_up":
        question, targets = text.look_up(scene, rng)
        return scene, "detection", question, _boxes({name: thing.box for name, thing in targets.items()}), ""
    return scene, kind, "", scene_boxes(scene), ""


def hide(scene: Scene, kind: str, probability: float, rng: np.random.Generator) -> Scene:
    """With the given probability omits all shapes or all colours, unless the question then becomes ambiguous."""
    parts = HIDING.get(kind, ())
    if not parts or rng.random() >= probability:
        return scene
    part = parts[int(rng.integers(len(parts)))]
    bare = replace(
        scene,
        things=tuple(
            replace(thing, shape="") if part == "shape" else replace(thing, colour="")
            for thing in scene.things
        ),
    )
    unambiguous = len({text.name(thing) for thing in bare.things}) == len(bare.things)
    return bare if unambiguous or kind not in ("look_up", "compare", "side", "level") else scene


def vocabulary(folder: Path, seed: int = 0, scenes: int = 3000) -> None:
    """Builds the tokenizer of the miniature's language model from the world's text.

    Args:
        folder: folder to which its files are written, next to the model's config.json.
        seed: seed of the scenes in the corpus.
        scenes: number of scenes, and of faces, in the corpus.
    """
    questions = [question for name in IMAGE_TASKS for question in TASKS[name].questions]
    answers = ["no objects", "yes", "no", *HAIR, *SHAPES, *(f"({letter})" for letter in "ABCDEF")]
    lines = [*questions, *text.HAIR_QUESTIONS, *text.SMILE_QUESTIONS, *answers]
    SEED.check(seed=seed)
    COUNT.check(scenes=scenes)
    tokenizer = build_tokenizer(world_lines(seed, scenes, lines))
    with tempfile.TemporaryDirectory() as written:
        tokenizer.save_pretrained(written)
        for file in Path(written).iterdir():
            with atomic_write(folder / file.name) as partial:
                shutil.copyfile(file, partial)


def scene_boxes(scene: Scene) -> Boxes:
    """Gold of detection, with class names only, as in the data sets."""
    return Boxes(tuple(LabelledBox(thing.shape, _rounded(thing.box)) for thing in scene.things))


def _boxes(named: dict[str, Box]) -> Boxes:
    return Boxes(tuple(LabelledBox(name, _rounded(box)) for name, box in named.items()))


def _rounded(box: Box) -> Box:
    x1, y1, x2, y2 = (round(edge, 4) for edge in box)
    return x1, y1, x2, y2


class WorldLanguage(InstructionDataModule):
    """Training data of the miniature's language model: every task, symbolic and written."""

    def __init__(
        self,
        weights: dict[str, float] | None = None,
        written: float = 0.25,
        hidden: float = 0.3,
        eval_count: int = 100,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        samples_per_epoch: int = 32_000,
        workers: int = 1,
        seed: int = 0,
        processor: Processor | None = None,
    ) -> None:
        """Sets the mixture.

        Args:
            weights: weight of each kind of question; all equal by default.
            written: fraction of scenes that are written into the question instead of given symbolically.
            hidden: fraction of training scenes from which all shapes or all colours are omitted.
            eval_count: scenes per kind and form in the evaluation, three times as many for vqa.
            batch_size: training instances per step and rank.
            eval_batch_size: instances per batch of generation and rank.
            samples_per_epoch: training instances per epoch over all ranks.
            workers: worker processes of each loader.
            seed: seed of all random choices.
            processor: turns samples into examples for the model; the command line takes it from the model.
        """
        SHARE.check(written=written, hidden=hidden)
        COUNT.check(eval_count=eval_count)
        NOT_NEGATIVE.check(weights=weights)
        super().__init__(batch_size, eval_batch_size, samples_per_epoch, workers, seed, processor)
        self.weights = weights or dict.fromkeys(KINDS, 1.0)
        self.written, self.hidden, self.eval_count = written, hidden, eval_count

    def train_sets(self) -> list[TrainSet]:
        """Every kind in both forms."""
        shares: dict[Form, float] = {"symbolic": 1 - self.written, "written": self.written}
        return [
            TrainSet(
                WorldQuestions(self.seed, "language-train", kind, form, 2_000_000, self.hidden),
                weight * share,
            )
            for kind, weight in self.weights.items()
            for form, share in shares.items()
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """Every kind in both forms, on scenes that do not occur in training, with nothing omitted."""
        forms: tuple[Form, Form] = ("symbolic", "written")
        counts = {"vqa": 3 * self.eval_count}
        return [
            EvalSet(
                f"{form}_{kind}",
                WorldQuestions(self.seed, f"language-{stage}", kind, form, counts.get(kind, self.eval_count)),
            )
            for form in forms
            for kind in self.weights
        ]
