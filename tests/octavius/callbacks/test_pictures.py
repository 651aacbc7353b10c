"""Tables and pictures of answers over synthetic scenes are read back."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from PIL import Image
from tensorboard import plugin_util
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datamodules.miniature.draw import draw_scene
from datamodules.miniature.world import generator, make_scene
from octavius.callbacks.board import PREDICTED, TRUE, markdown
from octavius.callbacks.pictures import COLUMNS, AnswerSamples, choose, draw, table
from octavius.display import markdown_cell
from octavius.evaluation.answers import Answered
from octavius.instruction.sample import Boxes, Choice, LabelledBox, Media, References, Sample


def detected(folder: Path, count: int, benchmark: str = "voc") -> list[Answered]:
    """Drawn scenes; every true box is found, a little to the left."""
    answers = []
    for index in range(count):
        scene = make_scene(generator(1, benchmark, index), count=2)
        path = folder / f"{benchmark}_{index}.png"
        draw_scene(scene).save(path)
        gold = tuple(LabelledBox(f"{thing.colour} {thing.shape}", thing.box) for thing in scene.things)
        found = tuple(
            LabelledBox(thing.label, (max(0.0, thing.box[0] - 0.05), *thing.box[1:])) for thing in gold
        )
        sample = Sample(f"s{index}", "detection", benchmark, {"image": Media(path=path)}, "", Boxes(gold))
        answers.append(Answered(sample, "Find all objects.", "two things", found, None))
    return answers


def asked(name: str, text: str, value: int | None) -> Answered:
    sample = Sample(name, "vqa", "scienceqa", {}, "", Choice(("red", "blue"), 1))
    return Answered(sample, f"Which colour is it, {name}?\nOptions: (A) red (B) blue", text, value, None)


def rendered(markdown: str) -> list[list[str]]:
    """The cells of a table as TensorBoard shows it, row by row."""
    page = plugin_util.markdown_to_safe_html(markdown)
    return [
        [part.split("</t")[0].split(">", 1)[1] for part in row.replace("<th", "<td").split("<td")[1:]]
        for row in page.replace("<thead", "").split("<tr>")[1:]
    ]


def test_tables_show_question_truth_and_prediction(
    evaluate: Callable[..., L.Trainer], events: Callable[[Path], EventAccumulator], tmp_path: Path
) -> None:
    answers = [asked("one", "blue (B)", 1), asked("two", "a|b", None), *detected(tmp_path, 3)]
    log = events(Path(str(evaluate(AnswerSamples(2), answers).log_dir)))
    assert {tag for tag in log.Tags()["tensors"] if tag.startswith("answers/")} == {
        "answers/val/scienceqa/text_summary",
        "answers/val/voc/text_summary",
    }
    (event,) = log.Tensors("answers/val/scienceqa/text_summary")
    assert event.step == 3
    head, *rows = rendered(event.tensor_proto.string_val[0].decode())
    assert head == ["question", "true", "predicted", "experts"]
    assert sorted(rows) == [
        ["Which colour is it, one? Options: (A) red (B) blue", "blue", "blue (B)", ""],
        ["Which colour is it, two? Options: (A) red (B) blue", "blue", "a|b (not readable)", ""],
    ]
    (event,) = log.Tensors("answers/val/voc/text_summary")
    assert len(rendered(event.tensor_proto.string_val[0].decode())) == 1 + 2


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_stays_in_its_cell_as_plain_characters(question: str, text: str) -> None:
    sample = Sample("1", "captioning", "coco", {}, "", References(("A ball.",)))
    page = markdown(COLUMNS, table([Answered(sample, question, text, text, None)]))
    page.encode()
    (_, row) = rendered(page)
    assert len(row) == 4
    assert row[1] == "A ball."
    assert not [part for part in row if "<" in part]


@pytest.mark.parametrize(
    "text",
    ["![x](http://there/x.png)", "[go](http://there)", "**b** _i_ `c`", "<b>x</b>", "| a | b |", "```"],
)
def test_markup_in_an_answer_is_shown_not_obeyed(text: str) -> None:
    sample = Sample("1", "captioning", "coco", {}, "", References(("A ball.",)))
    (_, row) = rendered(markdown(COLUMNS, table([Answered(sample, "What?", text, text, None)])))
    assert row[2].replace("&lt;", "<").replace("&gt;", ">") == text


def test_a_long_answer_is_cut() -> None:
    assert len(markdown_cell("word " * 1000)) < 700
    assert markdown_cell("word " * 1000).endswith("…")


def test_pictures_are_in_the_log_and_beside_it(
    evaluate: Callable[..., L.Trainer], events: Callable[[Path], EventAccumulator], tmp_path: Path
) -> None:
    answers = [*detected(tmp_path, 3), *detected(tmp_path, 1, "coco")]
    folder = Path(str(evaluate(AnswerSamples(2), answers).log_dir))
    with Image.open(folder / "detections_val.png") as image:
        size, pixels = image.size, np.asarray(image.convert("RGB")).astype(int)
    (shown,) = events(folder).Images("detections/val")
    assert (shown.width, shown.height, shown.step) == (*size, 3)
    assert min(size) > 2 * 112 * 2, "two by two pictures, each enlarged at least twice"
    for colour in (TRUE, PREDICTED):
        ink = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (np.abs(pixels - ink).max(axis=-1) < 8).sum() > 200, f"lines in {colour}"


def test_true_boxes_are_solid_and_predicted_ones_dashed(tmp_path: Path) -> None:
    (item,) = detected(tmp_path, 1)
    axes = draw({"voc": [item]}, "Detections").axes[0]
    lines = [
        (to_hex(box.get_edgecolor()).upper(), box.get_linestyle(), box.get_bbox().extents)
        for box in axes.patches
    ]
    for boxes, colour, style in ((item.sample.gold.objects, TRUE, "-"), (item.value, PREDICTED, "--")):
        drawn = [tuple(extents) for ink, dash, extents in lines if (ink, dash) == (colour, style)]
        assert drawn == [pytest.approx(thing.box) for thing in boxes]
    assert [text.get_text() for text in axes.texts] == [
        thing.label for thing in (*item.sample.gold.objects, *item.value)
    ]


def test_the_picture_keeps_its_proportions(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (200, 100), "red").save(path)
    gold = Boxes((LabelledBox("edge", (0.0, 0.0, 1.0, 1.0)),))
    item = Answered(
        Sample("1", "detection", "voc", {"image": Media(path=path)}, "", gold), "?", "", None, None
    )
    axes = draw({"voc": [item]}, "Detections").axes[0]
    assert axes.get_aspect() == 0.5
    assert (*axes.get_xlim(), *axes.get_ylim()) == (0, 1, 1, 0)


def detection_of(path: Path) -> Answered:
    gold = Boxes((LabelledBox("edge", (0.0, 0.0, 1.0, 1.0)),))
    sample = Sample("1", "detection", "voc", {"image": Media(path=path, stored=True)}, "", gold)
    return Answered(sample, "?", "", None, None)


def test_boxes_are_drawn_on_the_picture_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (200, 100), "red").save(tmp_path / "turned.jpg", exif=exif)
    axes = draw({"voc": [detection_of(tmp_path / "turned.jpg")]}, "Detections").axes[0]
    assert axes.get_aspect() == 0.5


def test_slim_and_large_pictures_are_drawn_small(tmp_path: Path) -> None:
    Image.new("RGB", (9000, 3), "red").save(tmp_path / "slim.png")
    axes = draw({"voc": [detection_of(tmp_path / "slim.png")]}, "Detections").axes[0]
    assert axes.get_aspect() == 1 / 8
    assert axes.images[0].get_array().shape == (1, 1024, 3)  # type: ignore[union-attr]


def test_a_picture_that_cannot_be_read_is_told_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "bad$x$.png").write_text("404")
    figure = draw({"voc": [detection_of(tmp_path / "bad$x$.png")]}, "Detections")
    [words] = [text.get_text() for text in figure.axes[0].texts]
    assert "not an image that can be read" in " ".join(words.split())
    figure.savefig(tmp_path / "figure.png")


def test_media_in_memory_are_not_drawn(evaluate: Callable[..., L.Trainer]) -> None:
    media = {"image": Media(array=np.zeros((4, 4, 3), np.uint8))}
    item = Answered(
        Sample("1", "detection", "voc", media, "", Boxes(())), "Find all.", "no objects", (), None
    )
    trainer = evaluate(AnswerSamples(), [item])
    assert not list(Path(str(trainer.log_dir)).glob("detections*"))


def test_nothing_without_a_logger(evaluate: Callable[..., L.Trainer], tmp_path: Path) -> None:
    trainer = evaluate(AnswerSamples(), detected(tmp_path, 1), logger=False)
    assert not list(Path(trainer.default_root_dir).rglob("detections*"))


def test_the_same_samples_at_every_evaluation() -> None:
    answers = [asked(f"q{index}", "blue (B)", 1) for index in range(20)]
    chosen = choose(answers, 3)
    assert choose(answers[::-1], 3) == chosen
    assert len(chosen["scienceqa"]) == 3
    assert chosen["scienceqa"] != answers[:3], "not just the first of the file"


def test_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        AnswerSamples(0)
