"""Text and symbolic data about the miniature's scenes, to train its language model without images.

Each scene is either written into the question, or given as symbolic features in place of image features. No scene,
shape-colour pair or question wording of a zero-shot test set is used here.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

import numpy as np

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
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
    pick,
)
from octavius.boxes import Box
from octavius.files import atomic_write
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Boxes, Choice, ClassName, Gold, LabelledBox, Media, References, Sample
from octavius.limits import FRACTION, NON_NEGATIVE_NUMBER, POSITIVE_INT, SEED_RANGE
from octavius.tasks import TASKS

Form = Literal["symbolic", "written"]
"""How the model gets a scene: as features in place of an image, or as text in the question."""

AUXILIARY_QUESTIONS = {"compare": text.compare, "attributes": text.attributes}
"""Questions about several objects at once, which train what multiple-choice questions need about a single one."""

KINDS = ("detection", "look_up", *AUXILIARY_QUESTIONS, "captioning", "vqa", "classification", "hair", "smile")
"""Kinds of question."""

IMAGE_TASKS = ("detection", "captioning", "vqa", "classification", "facial_attributes")
"""Tasks on the miniature's images; the tokenizer's vocabulary covers the questions of no other task."""

TOPICS = ("count", *("colour", "object", "side", "level") * 3)
"""Topics of multiple-choice questions, sampled from this list; `count` appears once, the others three times.

`side` asks for left or right, `level` for above or below. Counting is learned quickly, locating an object is not.
"""

NAMING = ("look_up", "compare", "side", "level")
"""Kinds of question and topics that name objects, whose names must differ."""

OMITTABLE: dict[str, tuple[Literal["shape", "colour"], ...]] = {
    "detection": ("colour",),
    "classification": ("colour",),
    "colour": ("shape",),
    **dict.fromkeys(NAMING, ("colour",)),
    **dict.fromkeys(("captioning", "count"), ("shape", "colour")),
}
"""Attributes that may be omitted, by kind of question or topic, without making it unanswerable."""


TRAIN_LENGTH = 2_000_000
"""Length of each training set; its samples are made on demand."""


class WorldQuestions(Sequence[Sample]):
    """A lazy sequence of samples: item i is made on demand from the seed, the stream, the kind, the form and i."""

    def __init__(
        self, seed: int, stream: str, kind: str, form: Form, length: int, hidden: float = 0.0
    ) -> None:
        """Selects one kind of question in one form.

        Args:
            seed: seed of all random choices.
            stream: name of the random stream; training and evaluation draw from separate streams.
            kind: one of `KINDS`.
            form: `symbolic` passes the scene as features, `written` as text in the question.
            length: number of items.
            hidden: probability that all shapes, or all colours, of a scene are omitted, so that the model does
                not learn to infer one from the other.
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
        asked = make_question(self.kind, rng, self.hidden)
        question = asked.question
        media: dict[str, Media] = {}
        if self.form == "symbolic":
            media["image"] = Media(array=symbols(asked.facts))
        else:
            wording = question or str(rng.choice(TASKS[asked.task].questions))
            facts = asked.facts
            scene_text = text.write_face(facts) if isinstance(facts, Face) else text.write_scene(facts)
            question = f"{scene_text}\n{wording}"
        key = f"{self.form}/{self.kind}/{index}"
        return Sample(key, asked.task, self.kind, media, question, asked.gold, group=asked.group)


@dataclass(frozen=True)
class SceneQuestion:
    """A question about a scene or a face.

    Attributes:
        facts: the scene or the face.
        task: name of the task.
        question: the question; empty for one of the task's own, which is drawn later.
        gold: what a right answer must state.
        group: group of the sample, by which scores are listed; may be empty.
    """

    facts: Scene | Face
    task: str
    question: str
    gold: Gold
    group: str = ""


def make_question(kind: str, rng: np.random.Generator, hidden: float = 0.0) -> SceneQuestion:
    """Draws a scene or a face, and a question of a kind about it."""
    if kind in ("hair", "smile"):
        face = make_face(rng)
        forms = text.HAIR_QUESTIONS if kind == "hair" else text.SMILE_QUESTIONS
        gold = (
            ClassName(face.hair, HAIR)
            if kind == "hair"
            else ClassName("yes" if face.smile else "no", ("yes", "no"))
        )
        return SceneQuestion(face, "facial_attributes", str(rng.choice(forms)), gold, kind)
    if kind == "classification":
        single = omit_attribute(make_single(rng), kind, hidden, rng)
        return SceneQuestion(single, kind, "", ClassName(single.things[0].shape, SHAPES))
    if kind in AUXILIARY_QUESTIONS:
        # Some scenes do not allow such a question.
        while True:
            scene = omit_attribute(make_scene(rng), kind, hidden, rng)
            exercise = AUXILIARY_QUESTIONS[kind](scene, rng)
            if exercise is not None:
                question, answer = exercise
                return SceneQuestion(scene, "conversation", question, References((answer,)))
    if kind == "vqa":
        topic = str(rng.choice(TOPICS))
        while True:
            scene = make_scene(rng, count=int(rng.integers(2, 5)) if topic in ("side", "level") else None)
            scene = omit_attribute(scene, topic, hidden, rng)
            drawn = text.ask(scene, topic, rng)
            if drawn is not None:
                choice = Choice(drawn.options, drawn.answer, drawn.reason)
                return SceneQuestion(scene, kind, drawn.text, choice, topic)
    scene = omit_attribute(make_scene(rng), kind, hidden, rng)
    if kind == "captioning":
        return SceneQuestion(scene, kind, "", References(text.captions(scene)))
    if kind == "look_up":
        question, targets = text.look_up(scene, rng)
        boxes = _boxes({name: thing.box for name, thing in targets.items()})
        return SceneQuestion(scene, "detection", question, boxes)
    return SceneQuestion(scene, kind, "", scene_boxes(scene))


def omit_attribute(scene: Scene, kind: str, probability: float, rng: np.random.Generator) -> Scene:
    """With the given probability removes all shapes or all colours, unless that makes the question ambiguous."""
    parts = OMITTABLE.get(kind, ())
    if not parts or rng.random() >= probability:
        return scene
    part = pick(rng, parts)
    bare = replace(
        scene,
        things=tuple(
            replace(thing, shape="") if part == "shape" else replace(thing, colour="")
            for thing in scene.things
        ),
    )
    unambiguous = len({text.name(thing) for thing in bare.things}) == len(bare.things)
    return bare if unambiguous or kind not in NAMING else scene


def build_vocabulary(folder: Path, seed: int = 0, scenes: int = 3000) -> None:
    """Builds the tokenizer of the miniature's language model from the world's text.

    Args:
        folder: folder to which the tokenizer's files are written, next to the model's config.json.
        seed: seed of the scenes in the corpus.
        scenes: number of scenes, and of faces, in the corpus.
    """
    questions = [question for name in IMAGE_TASKS for question in TASKS[name].questions]
    answers = ["no objects", "yes", "no", *HAIR, *SHAPES, *(f"({letter})" for letter in "ABCDEF")]
    lines = [*questions, *text.HAIR_QUESTIONS, *text.SMILE_QUESTIONS, *answers]
    SEED_RANGE.check(seed=seed)
    POSITIVE_INT.check(scenes=scenes)
    tokenizer = build_tokenizer(world_lines(seed, scenes, lines))
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        for file in Path(temporary).iterdir():
            with atomic_write(folder / file.name) as partial:
                shutil.copyfile(file, partial)


def scene_boxes(scene: Scene) -> Boxes:
    """Gold of detection: labels are class names without colours, as in the real data sets."""
    return Boxes(tuple(LabelledBox(thing.shape, _rounded(thing.box)) for thing in scene.things))


def _boxes(named: dict[str, Box]) -> Boxes:
    return Boxes(tuple(LabelledBox(name, _rounded(box)) for name, box in named.items()))


def _rounded(box: Box) -> Box:
    x1, y1, x2, y2 = (round(value, 4) for value in box)
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
            batch_size: training samples per step and rank.
            eval_batch_size: samples per batch of generation and rank.
            samples_per_epoch: training samples per epoch over all ranks.
            workers: worker processes of each loader.
            seed: seed of all random choices.
            processor: turns samples into examples for the model; the command line takes it from the model.
        """
        FRACTION.check(written=written, hidden=hidden)
        POSITIVE_INT.check(eval_count=eval_count)
        NON_NEGATIVE_NUMBER.check(weights=weights)
        super().__init__(batch_size, eval_batch_size, samples_per_epoch, workers, seed, processor)
        self.weights = weights or dict.fromkeys(KINDS, 1.0)
        self.written, self.hidden, self.eval_count = written, hidden, eval_count

    def train_sets(self) -> list[TrainSet]:
        """Every kind in both forms."""
        shares: dict[Form, float] = {"symbolic": 1 - self.written, "written": self.written}
        return [
            TrainSet(
                WorldQuestions(self.seed, "language-train", kind, form, TRAIN_LENGTH, self.hidden),
                weight * share,
            )
            for kind, weight in self.weights.items()
            for form, share in shares.items()
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """Every kind in both forms, drawn from a separate random stream, with nothing omitted."""
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
