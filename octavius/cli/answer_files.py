"""Answers of `octavius predict` as text, as JSON, and as files with the boxes that they name."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from octavius.boxes import Box3D
from octavius.boxes3d import CORNER_PAIRS, corners
from octavius.display import COLOURS, visible
from octavius.files import atomic_write, write_text
from octavius.instruction.sample import LabelledBox, Media, References, Sample
from octavius.media.pictures import open_picture
from octavius.tasks import TASKS

SMALLEST = 512
"""Smallest longer side of a drawn picture in pixels."""

THICKNESS = 0.015
"""Half the width in metres of the bars along the edges of a box."""

# Triangles of a cuboid whose corners are ordered as `boxes3d.corners` orders them.
_FACES = np.array(
    [
        *([0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7]),
        *(side for i in range(4) for j in [(i + 1) % 4] for side in ([i, j, 4 + j], [i, 4 + j, 4 + i])),
    ]
)


def sample_of(question: str, media: Mapping[str, Media], placed: Sequence[tuple[str, Media]] = ()) -> Sample:
    """A question as a sample without a true answer."""
    return Sample(
        "question", "conversation", "demo", media, question, References(("",)), placed=tuple(placed)
    )


@dataclass(frozen=True)
class Prediction:
    """A question and its answer.

    Attributes:
        question: the question.
        media: modality to medium.
        answer: the answer.
        gate: gate weights of the experts; None without experts.
        images: several images, which stand at placeholders in the question.
    """

    question: str
    media: Mapping[str, Media]
    answer: str
    gate: list[float] | None
    images: tuple[Media, ...] = ()

    @property
    def boxes(self) -> tuple[LabelledBox, ...]:
        """The boxes of the image that the answer names, in fractions of its width and height."""
        return TASKS["detection"].parse(self.answer, self._sample) if "image" in self.media else ()

    @property
    def boxes3d(self) -> tuple[tuple[str, Box3D], ...]:
        """The boxes of the cloud that the answer names, with what it says of each."""
        if "cloud" not in self.media:
            return ()
        found = TASKS["dense_captioning3d"].parse(self.answer, self._sample)
        return tuple((item.texts[0], item.box) for item in found)

    @property
    def _sample(self) -> Sample:
        return sample_of(self.question, self.media)

    def experts(self) -> str:
        """The experts that were used, with their weights; empty if there is one or none."""
        if self.gate is None or len(self.gate) < 2:
            return ""
        return ", ".join(f"{index} ({weight:.2f})" for index, weight in enumerate(self.gate) if weight > 0)

    def printed(self, name: bool, question: bool) -> str:
        """The answer as text, after the file and the question where there are several."""
        files = " ".join(str(item.path) for item in self.media.values()) if name else ""
        head = " | ".join(visible(part, 200) for part in (files, self.question if question else "") if part)
        text = visible(self.answer, len(self.answer), breaks=True)
        return f"{head}: {text}" if head else text

    def record(self) -> dict[str, Any]:
        """All about the answer, for JSON."""
        boxes = [{"label": box.label, "box": list(box.box)} for box in self.boxes]
        boxes += [{"label": label, "box": list(box)} for label, box in self.boxes3d]
        return {
            "question": self.question,
            **{name: str(item.path) for name, item in self.media.items()},
            **({"images": [str(item.path) for item in self.images]} if self.images else {}),
            "answer": self.answer,
            "boxes": boxes,
            "experts": self.gate,
        }

    def line(self) -> str:
        """All about the answer as one line of JSON."""
        return json.dumps(self.record())


def write(folder: Path, answers: Sequence[Prediction]) -> None:
    """Writes the answers to a folder, and for each that names boxes a file with these."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "answers.jsonl", "".join(f"{item.line()}\n" for item in answers))
    for index, item in enumerate(answers):
        if item.boxes:
            path = item.media["image"].path
            save_picture(
                folder / f"{index:03}_{_stem(path)}.png", draw_boxes(item.media["image"], item.boxes)
            )
        if item.boxes3d:
            path = item.media["cloud"].path
            save_boxes(folder / f"{index:03}_{_stem(path)}_boxes.ply", item.boxes3d)
    drawn = sum(bool(item.boxes or item.boxes3d) for item in answers)
    print(f"answers{f' and boxes of {drawn} of them' if drawn else ''}: {folder}", file=sys.stderr)


def _stem(path: Path | None) -> str:
    return "answer" if path is None else path.stem[:80]


def colours_of(labels: Sequence[str]) -> list[tuple[int, ...]]:
    """A colour (red, green, blue in 0..255) for each label; equal labels have equal colours."""
    order = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    return [ImageColor.getrgb(COLOURS[order[label] % len(COLOURS)]) for label in labels]


def draw_boxes(media: Media, boxes: Sequence[LabelledBox]) -> Image.Image:
    """The picture with boxes and their labels, at its full size; smaller ones than `SMALLEST` are enlarged.

    Raises:
        ValueError: the picture cannot be read.
    """
    image = open_picture(media)
    if (factor := math.ceil(SMALLEST / max(image.size))) > 1:  # labels would cover it
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    width, height = image.size
    line = max(2, round(max(image.size) / 250))
    font = ImageFont.load_default(max(11, round(max(image.size) / 45)))
    for box, colour in zip(boxes, colours_of([box.label for box in boxes]), strict=True):
        x1, y1, x2, y2 = (
            round(part * size) for part, size in zip(box.box, (width, height, width, height), strict=True)
        )
        frame = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        draw.rectangle(frame, outline="white", width=line + 2)
        draw.rectangle(frame, outline=colour, width=line)
        label = visible(box.label, 40)
        left, top, right, bottom = draw.textbbox((frame[0] + 3, frame[1] + 2), label, font=font)
        draw.rectangle((left - 3, top - 2, right + 3, bottom + 2), fill=colour)
        draw.text((frame[0] + 3, frame[1] + 2), label, fill="white", font=font)
    return image


def save_picture(path: Path, image: Image.Image) -> None:
    """Replaces a PNG file."""
    with atomic_write(path) as partial:
        image.save(partial, "PNG")


def save_boxes(path: Path, boxes: Sequence[tuple[str, Box3D]]) -> None:
    """Replaces a PLY file with the edges of boxes as coloured bars, to be opened together with the cloud.

    Args:
        path: the file.
        boxes: label, and centre and size in metres in the aligned cloud, of each box.
    """
    points, faces = list[np.ndarray](), list[np.ndarray]()
    for (_, box), colour in zip(boxes, colours_of([label for label, _ in boxes]), strict=True):
        ends = corners(np.array(box, float))
        for first, second in CORNER_PAIRS:
            low, high = np.sort(ends[[first, second]], axis=0)
            bar = np.concatenate([(low + high) / 2, high - low + 2 * THICKNESS])
            found = corners(bar)
            faces.append(_FACES + 8 * len(points))
            points.append(np.concatenate([found, np.broadcast_to(colour, (8, 3))], axis=1))
    vertices, triangles = np.concatenate(points), np.concatenate(faces)
    head = (
        f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    with atomic_write(path) as partial, partial.open("w", encoding="ascii") as file:
        file.write(head)
        np.savetxt(file, vertices, fmt="%.4f %.4f %.4f %d %d %d")
        np.savetxt(file, triangles, fmt="3 %d %d %d")
