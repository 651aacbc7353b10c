"""Pictures of rooms with answers: what is drawn, clipped, framed and captioned is read back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from octavius.boxes import Box3D
from octavius.callbacks.board import PREDICTED, TRUE
from octavius.callbacks.cloud_pictures import SIZE, cloud_panel, shown_part, splat, view_of
from octavius.callbacks.pictures import TEXT_HEIGHT, AnswerSamples, draw
from octavius.evaluation.answers import Answered
from octavius.instruction.sample import (
    DescribedObject,
    DescribedObjects,
    Gold,
    Media,
    References,
    Region,
    Sample,
)

RED, GREEN, GREY = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.4, 0.4, 0.4)
BOXES: tuple[Box3D, ...] = ((1.0, 1.0, 0.5, 1.0, 1.0, 1.0), (3.0, 2.0, 0.5, 0.5, 1.5, 1.0))


def block(box: Box3D, colour: tuple[float, ...], count: int = 400) -> np.ndarray:
    """Points (count, 6) of one colour in a box, its corners among them."""
    rng = np.random.default_rng(0)
    inside = rng.uniform(-0.5, 0.5, (count, 3))
    inside[:8] = [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
    return np.hstack([inside * box[3:] + box[:3], np.tile(colour, (count, 1))])


def room() -> np.ndarray:
    """A box of 4 x 4 x 2.6 m, its six faces in grey, with a red and a green block on its floor."""
    faces = [
        block((2, 2, 1.3, *(0.0 if axis == across else (4, 4, 2.6)[axis] for axis in range(3))), GREY)  # type: ignore[arg-type]
        + np.array([*(side * (2, 2, 1.3)[axis] * (axis == across) for axis in range(3)), 0, 0, 0])
        for across in range(3)
        for side in (-1, 1)
    ]
    return np.vstack([*faces, block(BOXES[0], RED), block(BOXES[1], GREEN)])


def saved(folder: Path) -> Path:
    path = folder / "room.npy"
    np.save(path, room().astype(np.float32))
    return path


def dense(path: Path) -> Answered:
    """Both blocks are described; the first is found a little aside."""
    gold = DescribedObjects(tuple(DescribedObject(box, ("a block",)) for box in BOXES))
    found = (DescribedObject((1.1, *BOXES[0][1:]), ("a block",)),)  # type: ignore[arg-type]
    return answer(Media(path=path), gold, "dense_captioning3d", found)


def answer(media: Media, gold: Gold, task: str, value: object = None, text: str = "a block") -> Answered:
    return Answered(Sample("s1", task, "rooms", {"cloud": media}, "", gold), "What is it?", text, value, None)


@given(st.lists(st.tuples(*[st.floats(-20, 20)] * 3), min_size=1, max_size=8))
def test_every_place_is_in_the_picture(places: list[tuple[float, float, float]]) -> None:
    xyz = np.array(places)
    pixels = view_of(xyz).pixels(xyz)
    assert (pixels[:, :2] > 0).all()
    assert (pixels[:, :2] < SIZE).all()


def test_up_is_up_and_near_is_before_far() -> None:
    """The viewer looks down from the side of +x and -y."""
    xyz = np.array([[0.0, 0, 0], [0, 0, 1], [0.5, -0.8, 0]])
    low, high, near = view_of(xyz).pixels(xyz)
    assert high[1] < low[1]
    assert high[0] == pytest.approx(low[0])
    assert near[2] < low[2]


def test_a_near_dot_covers_a_far_one() -> None:
    frame = block((0, 0, 0, 4, 4, 4), GREY)
    view = view_of(frame[:, :3])
    far = np.array([[0.0, 0, 0, *RED]])
    near = np.hstack([far[:, :3] - view.axes[2], [GREEN]])
    column, row = view.pixels(far[:, :3])[0, :2].astype(int)
    for points in ([far, near], [near, far]):
        assert splat(np.vstack(points), view)[row, column].tolist() == [0, 255, 0]


def test_a_room_is_cut_open_to_the_viewer_and_nothing_in_it_is_lost() -> None:
    points = room()
    kept = shown_part(points, None)
    assert kept[:, 2].max() < 2.3, "no ceiling"
    assert kept[:, 0].max() < 3.9, "no wall on the viewer's right"
    assert kept[:, 1].min() > 0.1, "nor on the left"
    assert (kept[:, 0].min(), kept[:, 1].max(), kept[:, 2].min()) == (0, 4, 0), (
        "the others stay, and the floor"
    )
    colours = [tuple(colour) for colour in kept[:, 3:]]
    assert (colours.count(RED), colours.count(GREEN)) == (400, 400)


def test_a_thing_alone_is_shown_whole_and_one_in_a_room_with_its_surroundings() -> None:
    thing = block(BOXES[0], RED)
    assert shown_part(thing, None) is thing
    near = shown_part(room(), BOXES[0])
    assert np.abs(near[:, :2] - 1).max() <= 1.1 + 1e-9
    assert [tuple(colour) for colour in near[:, 3:]].count(RED) == 400
    nowhere: Box3D = (50, 50, 50, 1, 1, 1)
    assert shown_part(thing, nowhere) is thing, "a box in which nothing is leaves the whole"


def test_boxes_frame_their_points_true_ones_solid_and_predicted_ones_dashed(tmp_path: Path) -> None:
    axes = draw({"rooms": [dense(saved(tmp_path))]}, "Clouds", cloud_panel, TEXT_HEIGHT).axes[0]
    edges = [
        (to_hex(line.get_color()).upper(), line.get_linestyle(), line.get_xydata()) for line in axes.lines
    ]
    assert [(ink, dash) for ink, dash, _ in edges] == [(TRUE, "-")] * 24 + [(PREDICTED, "--")] * 12
    picture = np.asarray(axes.images[0].get_array()).astype(int)
    for place, channel in ((0, 0), (1, 1)):
        ends = np.vstack([line for _, _, line in edges[12 * place : 12 * place + 12]])
        inked = picture[..., channel] - picture.sum(-1) / 3 > 100
        rows, columns = np.nonzero(inked)
        assert len(rows) > 500
        assert np.abs([columns.min() - ends[:, 0].min(), columns.max() - ends[:, 0].max()]).max() < 8
        assert np.abs([rows.min() - ends[:, 1].min(), rows.max() - ends[:, 1].max()]).max() < 8


def test_the_object_that_is_spoken_of_is_framed_and_the_words_stand_below(tmp_path: Path) -> None:
    media = Media(path=saved(tmp_path), region=Region("1", BOXES[1]))
    item = answer(media, References(("A green block.",)), "captioning3d", "x", "costs $5 or $6 " * 30)
    axes = draw({"rooms": [item]}, "Clouds", cloud_panel, TEXT_HEIGHT).axes[0]
    assert len(axes.lines) == 12
    said = axes.texts[0].get_text().replace("\n", " ")
    assert said.startswith("asked: What is it? true: A green block. said: costs $5 or $6 costs")
    assert said.endswith(" …")
    assert len(said) < 260


def test_a_cloud_that_is_gone_is_said_and_does_not_end_the_evaluation(tmp_path: Path) -> None:
    item = answer(Media(path=tmp_path / "gone.npy"), References(("a chair",)), "vqa3d")
    axes = draw({"rooms": [item]}, "Clouds", cloud_panel, TEXT_HEIGHT).axes[0]
    assert "no cloud file at" in axes.texts[1].get_text()


def test_pictures_are_in_the_log_and_beside_it(
    evaluate: Callable[..., L.Trainer], events: Callable[[Path], EventAccumulator], tmp_path: Path
) -> None:
    item = dense(saved(tmp_path))
    held = answer(Media(array=room()), References(("a chair",)), "vqa3d")
    others = [replace(held, set_name="held")]
    folder = Path(str(evaluate(AnswerSamples(2), [item, *others]).log_dir))
    with Image.open(folder / "clouds_val.png") as image:
        size, pixels = image.size, np.asarray(image.convert("RGB")).astype(int)
    (shown,) = events(folder).Images("clouds/val")
    assert (shown.width, shown.height, shown.step) == (*size, 3)
    for colour in (TRUE, PREDICTED):
        ink = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (np.abs(pixels - ink).max(axis=-1) < 12).sum() > 100, f"lines in {colour}"
    assert not list(folder.glob("detections*"))


def test_media_in_memory_are_not_drawn(evaluate: Callable[..., L.Trainer]) -> None:
    held = answer(Media(array=room()), References(("a chair",)), "vqa3d")
    trainer = evaluate(AnswerSamples(), [held])
    assert not list(Path(str(trainer.log_dir)).glob("clouds*"))
