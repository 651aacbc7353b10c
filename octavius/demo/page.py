"""The layout of the page, and which callback each component calls."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from octavius.demo.callbacks import GATE, OWN, Callbacks
from octavius.media.cloud_forms import SUFFIXES

if TYPE_CHECKING:
    import gradio as gr
    from PIL import Image

MOST_SLIDERS = 16
"""With more experts, weights can be chosen for one expert or one task, but not one by one."""

CSS = """
.octavius-picture { display: block; max-width: 320px; margin: 4px 0; border-radius: 6px; }
.octavius-picture text { font-family: system-ui, sans-serif; }
.octavius-bars { max-width: 420px; font-size: 12px; line-height: 1.5; margin-top: 6px; min-width: 220px; }
.octavius-row { display: grid; grid-template-columns: 62px 1fr 34px; gap: 8px; align-items: center; }
.octavius-row span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.octavius-bar { background: rgba(128, 128, 128, .22); border-radius: 3px; height: 9px; overflow: hidden; }
.octavius-bar div { height: 100%; border-radius: 3px; }
.octavius-note { opacity: .75; }
.octavius-chips button { white-space: normal; text-align: left; }
"""


@dataclass
class Inputs:
    """The components of the left column, which all tabs read.

    Attributes:
        media: state with the media.
        picture: the picture.
        scan: the file of the scan.
        box: the object of the scan that is asked about.
        view: the view of the scan.
        truth: the right answer to an example's question.
        gallery: the examples.
    """

    media: "gr.State"
    picture: "gr.Image"
    scan: "gr.File"
    box: "gr.Textbox"
    view: "gr.Plot"
    truth: "gr.HTML"
    gallery: "gr.Gallery"


def build_page(
    callbacks: Callbacks, pictures: Sequence["Image.Image"], suggested: Sequence[str], remember: bool
) -> "gr.Blocks":
    """Builds the page.

    Args:
        callbacks: the callbacks, with the checkpoints and the examples.
        pictures: a small picture of each example that is shown.
        suggested: questions to suggest.
        remember: whether earlier turns are part of the prompt unless the visitor says otherwise.
    """
    import gradio as gr

    with gr.Blocks(
        title=f"Octavius: {callbacks.asked.name}", analytics_enabled=False, delete_cache=(3600, 86400)
    ) as page:
        gr.HTML(_introduction(callbacks))
        with gr.Row():
            with gr.Column(scale=4, min_width=320):
                inputs = _inputs(callbacks, pictures)
            with gr.Column(scale=6, min_width=320):
                with gr.Tab("Chat"):
                    question = _chat(callbacks, inputs, suggested, remember)
                with gr.Tab("Other experts"):
                    forced = _experts(callbacks, inputs)
                with gr.Tab("Two checkpoints"):
                    compared = _comparison(callbacks, inputs)
        boxes = [box for box in (question, forced, compared) if box is not None]
        _examples(callbacks, inputs, boxes)
        if callbacks.shown:
            page.load(
                lambda: callbacks.take_example(0),
                None,
                _filled(inputs, boxes),
                api_visibility="private",
            )
    return page


def _introduction(callbacks: Callbacks) -> str:
    takes = {"image": "a picture", "cloud": "a scan"}
    about = " or ".join(words for name, words in takes.items() if name in callbacks.asked.modalities)
    experts = (
        " A gate reads the question and decides how much each <b>expert</b> (a small LoRA adapter) takes part in the "
        "answer; the bars below an answer show it."
        if callbacks.asked.experts > 1
        else ""
    )
    return (
        f"<h2>Octavius: {html.escape(callbacks.asked.name)}</h2>"
        f"Choose {about or 'nothing, this model reads text alone'}, and ask.{experts}"
    )


def _inputs(callbacks: Callbacks, pictures: Sequence["Image.Image"]) -> Inputs:
    import gradio as gr

    takes = callbacks.asked.modalities
    media = gr.State({})
    image = gr.Image(
        label="Picture: drop, paste or choose one",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=250,
        visible="image" in takes,
        elem_id="picture",
    )
    scan = gr.File(
        label="Scan: a point cloud, z up, in metres",
        file_types=list(SUFFIXES),
        height=120,
        visible="cloud" in takes,
        elem_id="scan",
    )
    view = gr.Plot(label="Scan: drag to turn, scroll to zoom", visible=False, elem_id="view")
    box = gr.Textbox(
        label="Ask about one object of the scan",
        info="centre and size of its box in metres: x y z dx dy dz; empty for the whole room",
        visible="cloud" in takes,
        elem_id="box",
    )
    if pictures:
        gr.HTML("Examples: click one to load it with its question.")
    gallery = gr.Gallery(
        value=[
            (picture, example.benchmark.rpartition("/")[2])
            for picture, example in zip(pictures, callbacks.shown, strict=True)
        ],
        show_label=False,  # it would cover the pictures
        columns=3,
        height=250 if len(pictures) > 3 else 150,
        allow_preview=False,
        buttons=[],
        interactive=False,
        visible=bool(pictures),
        elem_id="examples",
    )
    truth = gr.HTML(elem_id="truth")

    def taken(upload: dict[str, Any] | None, kept: Any) -> tuple[Any, ...]:
        return callbacks.take_picture(None if upload is None else upload["path"], kept)

    # Gradio's preprocessing would open the file with errors that are not for people.
    image.input(taken, [image, media], [image, media], preprocess=False, **QUIET)
    for event in (scan.upload, scan.clear, box.submit, box.blur):
        event(callbacks.take_cloud, [scan, box, media], [scan, media, view], api_visibility="private")
    for event in (image.input, scan.upload):
        event(lambda: "", None, truth, show_progress="hidden", api_visibility="private")
    return Inputs(media, image, scan, box, view, truth, gallery)


def _filled(inputs: Inputs, questions: Sequence["gr.Textbox"]) -> list[Any]:
    """The components that an example fills, in the order of `Callbacks.take_example`."""
    return [inputs.media, inputs.picture, inputs.scan, inputs.view, questions[0], inputs.truth]


def _examples(callbacks: Callbacks, inputs: Inputs, questions: Sequence["gr.Textbox"]) -> None:
    import gradio as gr

    def chosen(event: gr.SelectData) -> tuple[Any, ...]:
        return callbacks.take_example(event.index)

    inputs.gallery.select(chosen, None, _filled(inputs, questions), api_visibility="private")
    for other in questions[1:]:
        questions[0].change(lambda text: text or gr.skip(), questions[0], other, **QUIET)


QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _chat(callbacks: Callbacks, inputs: Inputs, suggested: Sequence[str], remember: bool) -> "gr.Textbox":
    import gradio as gr

    turns = gr.State([])
    chat = _answers(None, 580, "Ask below, or choose one of the questions.", "chat")
    with gr.Row():
        question = gr.Textbox(
            show_label=False,
            placeholder="Ask about it",
            scale=8,
            min_width=160,
            elem_id="question",
            max_lines=6,
        )
        send = gr.Button("Ask", variant="primary", scale=1, min_width=60, elem_id="ask")
        stop = gr.Button("Stop", scale=1, min_width=60, elem_id="stop")
    if suggested:
        chips = gr.Dataset(
            components=[question],
            samples=[[text] for text in suggested],
            label="Questions of the evaluation sets",
            layout="gallery",
            elem_classes=["octavius-chips"],
            elem_id="chips",
        )
        chips.click(lambda sample: sample[0], chips, question, **QUIET)
    with gr.Row():
        kept = gr.Checkbox(
            remember,
            label="Remember earlier turns",
            info="puts them into the prompt; for models that were trained on conversations",
            scale=6,
        )
        clear = gr.Button("New chat", scale=1, min_width=90, size="md")
    ask: Callable[..., Any] = callbacks.ask
    running = gr.on(
        [send.click, question.submit],
        ask,
        [question, inputs.media, turns, kept],
        [chat, turns, question, inputs.view],
        concurrency_limit=callbacks.asked.engine.batch_size,
        **QUIET,
    )
    stop.click(None, None, None, cancels=[running], **QUIET)
    for event in (clear.click, chat.clear):
        event(lambda: ([], []), None, [chat, turns], cancels=[running], **QUIET)
    return question


def _answers(label: str | None, height: int, placeholder: str, name: str) -> "gr.Chatbot":
    """A chatbot that shows texts literally; a label covers the first line."""
    import gradio as gr

    return gr.Chatbot(
        label=label,
        show_label=label is not None,
        height=height,
        placeholder=placeholder,
        render_markdown=False,
        latex_delimiters=[],
        buttons=[],
        feedback_options=None,
        elem_id=name,
    )


def _experts(callbacks: Callbacks, inputs: Inputs) -> "gr.Textbox | None":
    import gradio as gr

    experts = callbacks.asked.experts
    if not experts:
        gr.HTML(f"Experts cannot be chosen here: {html.escape(callbacks.asked.unforced)}.")
        return None
    gr.HTML("Ask again, with experts of your choice instead of the gate's.")
    question = gr.Textbox(label="Question", max_lines=6, elem_id="forced-question")
    who = gr.Radio(
        [choice for choice in callbacks.choices if choice != OWN or experts <= MOST_SLIDERS],
        value=GATE,
        label="Who should answer?",
        elem_id="who",
    )
    sliders = []
    if experts <= MOST_SLIDERS:
        with gr.Row():
            sliders = [
                gr.Slider(
                    0, 1, 0, step=0.05, label=f"expert {index}", min_width=140, elem_id=f"expert-{index}"
                )
                for index in range(experts)
            ]
    chat = _answers(None, 520, "Choose who answers, or move a slider.", "forced")
    limits = {"concurrency_limit": callbacks.asked.engine.batch_size, "trigger_mode": "always_last", **QUIET}
    who.input(
        callbacks.choose,
        [who, question, inputs.media, *sliders],
        [chat, inputs.view, *sliders],
        **limits,
    )
    for slider in sliders:
        slider.release(
            callbacks.slide, [question, inputs.media, *sliders], [chat, inputs.view, who], **limits
        )
    return question


def _comparison(callbacks: Callbacks, inputs: Inputs) -> "gr.Textbox | None":
    import gradio as gr

    asked, other = callbacks.asked, callbacks.other
    if other is None:
        gr.HTML(
            "This tab asks two checkpoints the same question. Start the page with a second one: "
            f"<code>octavius demo --ckpt {html.escape(asked.name)} --against OTHER.ckpt</code>"
        )
        return None
    with gr.Row():
        question = gr.Textbox(
            show_label=False, placeholder="Ask both", scale=8, min_width=160, elem_id="compared-question"
        )
        send = gr.Button("Ask both", variant="primary", scale=2, min_width=110, elem_id="ask-both")
    with gr.Row():
        first = _answers(asked.name, 460, "", "first")
        second = _answers(other.name, 460, "", "second")
    gr.on(
        [send.click, question.submit],
        callbacks.compare,
        [question, inputs.media],
        [first, second, inputs.view],
        concurrency_limit=asked.engine.batch_size,
        **QUIET,
    )
    return question
