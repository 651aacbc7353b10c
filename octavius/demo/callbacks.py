"""What happens on the page: Gradio calls these functions with the values of components, and shows what they return.

They are quick to test without a browser. An error becomes a message, and what is on the page stays.
"""

import html
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from octavius.demo.asking import Asked, Turn, earlier, explain
from octavius.demo.drawing import bars, cloud, picture
from octavius.demo.examples import Example, by_task, task_weights
from octavius.display import visible
from octavius.instruction.sample import Media
from octavius.media.pictures import open_picture
from octavius.media.regions import region_of

GATE, OWN = "as the gate chooses", "my own weights"
EQUALLY, EXPERTS_OF = "all experts equally", "experts of "
"""Who answers: choices that are not of one expert, and how one of a task begins."""

MediaOf: TypeAlias = Mapping[str, Media]
Messages: TypeAlias = list[dict[str, Any]]


def messages(turns: Sequence[Turn], shown: MediaOf | None = None) -> Messages:
    """Turns as messages of Gradio's chatbot: media where they change, boxes and bars below each answer.

    Args:
        turns: the turns.
        shown: media that need not be shown before the first turn.
    """
    import gradio as gr

    found: Messages = []
    shown = shown or {}
    for turn in turns:
        asked: list[Any] = [literal(turn.question)]
        if turn.media != shown:
            asked = [*(gr.HTML(text) for text in _media_texts(turn.media)), *asked]
            shown = turn.media
        found.append({"role": "user", "content": asked})
        answer = turn.answer
        text = literal(answer.text) or ("(no words)" if answer.finish else "…")
        if answer.finish in ("length", "cancelled"):
            text += " […]"
        below = ""
        if answer.finish is not None and turn.boxes:
            below += picture(turn.media["image"], turn.boxes)
        below += bars(answer, turn.experts)
        found.append({"role": "assistant", "content": [text, *([gr.HTML(below)] if below else [])]})
    return found


def literal(text: str) -> str:
    """A text as HTML that shows it as it is; the chatbot would render markup in it, and load what that names."""
    return html.escape(visible(text, len(text), breaks=True), quote=False).replace("\n", "<br>")


def _media_texts(media: MediaOf) -> Iterator[str]:
    """HTML for the media of a question: a small picture, the name of a scan."""
    if "image" in media:
        yield picture(media["image"], width=40)
    if "cloud" in media and media["cloud"].path is not None:
        region = media["cloud"].region
        about = "" if region is None else ", one object of it"
        yield f"<small>scan {html.escape(media['cloud'].path.name)}{about}</small>"


def boxes_in_cloud(**turns: Turn) -> dict[str, Sequence[Any]]:
    """The boxes of answers about a cloud, by who answered."""
    return {name: turn.boxes3d for name, turn in turns.items() if turn.boxes3d}


@dataclass
class Callbacks:
    """The callbacks of a page.

    Attributes:
        asked: the checkpoint.
        other: the one that it is compared with.
        examples: the samples of the evaluation sets.
        shown: those of them that the page shows.
    """

    asked: Asked
    other: Asked | None = None
    examples: Sequence[Example] = ()
    shown: Sequence[Example] = ()
    _weights: dict[str, list[float]] = field(default_factory=dict)
    _averaging: threading.Lock = field(default_factory=threading.Lock)

    @property
    def choices(self) -> list[str]:
        """Who may answer: the gate, each expert alone, all of them, those of each task."""
        experts = self.asked.experts
        alone = [f"expert {index} alone" for index in range(experts)]
        every = [EQUALLY] if experts > 1 else []
        tasks = [f"{EXPERTS_OF}{name}" for name in self.tasks] if experts > 1 else []
        return [GATE, *alone, *every, *tasks, OWN]

    @property
    def tasks(self) -> dict[str, list[Example]]:
        """Examples of each task that the model can be asked about."""
        known = set(self.asked.modalities)
        return by_task([example for example in self.examples if set(example.media) <= known])

    def weights_of(self, choice: str) -> list[float]:
        """The weights (E,) that a choice stands for.

        Raises:
            ValueError: it stands for none, as the gate's do before a question.
        """
        experts = self.asked.experts
        if choice == EQUALLY:
            return [1.0 / experts] * experts
        alone = [f"expert {number} alone" for number in range(experts)]
        if choice in alone:
            return [float(number == alone.index(choice)) for number in range(experts)]
        name = choice.removeprefix(EXPERTS_OF)
        if name not in self.tasks:
            raise ValueError(f"{choice!r} stands for no weights; choose another")
        with self._averaging:
            if name not in self._weights:
                self._weights[name] = task_weights(self.asked, self.tasks[name])
        return self._weights[name]

    def take_picture(self, path: str | None, media: MediaOf) -> tuple[Any, ...]:
        """After an upload: the picture to show, the media."""
        import gradio as gr

        rest = {name: item for name, item in media.items() if name != "image"}
        if path is None:
            return gr.skip(), rest
        found = {**rest, "image": Media(path=Path(path))}
        try:
            open_picture(found["image"])
        except ValueError as error:
            warn(explain(error, found))
            return None, rest
        return gr.skip(), found

    def take_cloud(self, path: str | None, box: str, media: MediaOf) -> tuple[Any, ...]:
        """After an upload, or a change of the object in question: the file to show, the media, the view."""
        import gradio as gr

        rest = {name: item for name, item in media.items() if name != "cloud"}
        if path is None:
            return gr.skip(), rest, gr.Plot(None, visible=False)
        found: MediaOf = {"cloud": Media(path=Path(path))}
        try:
            region = region_of(box) if box.strip() else None
            found = {**rest, "cloud": Media(path=Path(path), region=region)}
            view = cloud(found["cloud"], {})
        except ValueError as error:
            warn(explain(error, found))
            return None, rest, gr.Plot(None, visible=False)
        return gr.skip(), found, gr.Plot(view, visible=True)

    def take_example(self, index: int) -> tuple[Any, ...]:
        """The media of an example, its picture, its scan, its view, its question, and the right answer."""
        import gradio as gr

        example = self.shown[index]
        image, scan = example.media.get("image"), example.media.get("cloud")
        view = gr.Plot(None, visible=False) if scan is None else gr.Plot(cloud(scan, {}), visible=True)
        truth = (
            f"<b>Right answer</b> (of {html.escape(visible(example.benchmark))}): "
            f"{html.escape(visible(example.truth))}"
        )
        return (
            dict(example.media),
            None if image is None else str(image.path),
            None if scan is None else str(scan.path),
            view,
            example.question,
            truth,
        )

    def ask(
        self, question: str, media: MediaOf, turns: Sequence[Turn], remember: bool
    ) -> Generator[tuple[Any, ...]]:
        """Streams the answer: the messages, the turns, the text of the question box, the view of the cloud."""
        import gradio as gr

        yield (gr.skip(),) * 4  # without any output Gradio would empty the components
        history = earlier(turns, media) if remember else []
        last: Turn | None = None
        emptied: Any = ""
        for last in answers(self.asked, Turn(question.strip(), media), history=history):
            done = [*turns, last]
            yield messages(done), done, emptied, gr.skip()
            emptied = gr.skip()  # the visitor may be writing the next question
        if last is not None and last.answer.finish is None:
            yield messages(turns), list(turns), question, gr.skip()
        elif last is not None and (boxes := boxes_in_cloud(answer=last)):
            yield gr.skip(), gr.skip(), gr.skip(), cloud(media["cloud"], boxes)

    def choose(
        self, choice: str, question: str, media: MediaOf, *weights: float
    ) -> Generator[tuple[Any, ...]]:
        """After a choice of who answers: the messages, the view of the cloud, the sliders."""
        import gradio as gr

        kept = (gr.skip(),) * len(weights)
        yield gr.skip(), gr.skip(), *kept
        if choice == OWN:
            return
        taken: list[float] | None = None
        if choice != GATE:
            yield (
                messages([Turn(question.strip(), media)], media),
                gr.skip(),
                *kept,
            )  # averaging takes a while
            try:
                taken = self.weights_of(choice)
            except Exception as error:
                warn(explain(error, media))
                yield [], gr.skip(), *kept
                return
            yield gr.skip(), gr.skip(), *taken
        for found, view, turn in self._forced(question, media, taken, choice if taken else ""):
            sliders = turn.answer.weights if choice == GATE else None
            yield found, view, *(sliders or kept)

    def slide(self, question: str, media: MediaOf, *weights: float) -> Generator[tuple[Any, ...]]:
        """After a slider was moved: the messages, the view of the cloud, and who answers."""
        import gradio as gr

        yield (gr.skip(),) * 3
        if not any(weights):
            gr.Info("All weights are 0: the frozen language model answers without any expert.")
        for found, view, _ in self._forced(question, media, list(weights), OWN):
            yield found, view, OWN

    def _forced(
        self, question: str, media: MediaOf, weights: list[float] | None, who: str
    ) -> Iterator[tuple[Any, Any, Turn]]:
        import gradio as gr

        last = None
        for last in answers(self.asked, Turn(question.strip(), media, experts=who), weights):
            yield messages([last], media), gr.skip(), last
        if last is not None and last.answer.finish is None:
            yield [], gr.skip(), last
        elif last is not None and (boxes := boxes_in_cloud(answer=last)):
            yield gr.skip(), cloud(media["cloud"], boxes), last

    def compare(self, question: str, media: MediaOf) -> Generator[tuple[Any, ...]]:
        """Streams both checkpoints' answers: the messages of each, the view of the cloud."""
        import gradio as gr

        assert self.other is not None
        yield (gr.skip(),) * 3
        turn = Turn(question.strip(), media)
        found = [turn, turn]
        with ExitStack() as stack:
            streams = [stack.enter_context(closing(answers(one, turn))) for one in (self.asked, self.other)]
            for states in zip_longest(*streams):
                found = [new or old for new, old in zip(states, found, strict=True)]
                yield messages(found[:1], media), messages(found[1:], media), gr.skip()
        if turn.question:
            whole = [[one] if one.answer.finish is not None else [] for one in found]
            yield messages(whole[0], media), messages(whole[1], media), gr.skip()
        boxes = {
            one.name: turn.boxes3d
            for one, turn in zip((self.asked, self.other), found, strict=True)
            if turn.boxes3d
        }
        if boxes:
            yield gr.skip(), gr.skip(), cloud(media["cloud"], boxes)


def answers(
    asked: Asked,
    turn: Turn,
    weights: Sequence[float] | None = None,
    history: Sequence[tuple[str, str]] = (),
) -> Generator[Turn]:
    """The turn before its answer, then with each state of it; an error ends it with a message on the page."""
    if not turn.question:
        warn("Ask something first, or choose one of the suggested questions.")
        return
    yield turn
    try:
        yield from asked.answer(turn, weights, history)
    except Exception as error:  # whatever a backend raises; the server goes on
        warn(explain(error, turn.media))


def warn(text: str) -> None:
    """Shows a message on the page; it may hold untrusted text."""
    import gradio as gr

    gr.Warning(html.escape(text), duration=20)
