"""The command `octavius predict`: answers questions about images or point clouds."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from octavius.checkpoint.load import load
from octavius.cli.answer_files import Prediction, sample_of, write
from octavius.cli.questions import files_of, joined, questions_of
from octavius.configuration.functions import call
from octavius.files import check_writable
from octavius.instruction.placement import counted
from octavius.instruction.prompt import TooLongError
from octavius.instruction.sample import Media
from octavius.limits import SIZE_RANGE
from octavius.media.regions import region_of
from octavius.media.scan_frame import axis_alignment, info_beside
from octavius.presets import find_checkpoint
from octavius.suggestions import nearest
from octavius.training import OctaviusModule


def run(argv: Sequence[str]) -> None:
    """Runs the command with its arguments; see `predict`."""
    call(predict, "predict", joined(list(argv)), positional=False)


def predict(
    question: str | None = None,
    questions: Path | None = None,
    image: list[Path] | Path | None = None,
    cloud: list[Path] | Path | None = None,
    box: str | None = None,
    media: dict[str, Path] | None = None,
    json: bool = False,
    out: Path | None = None,
    ckpt: str = "last.ckpt",
    max_new_tokens: int = 128,
    num_beams: int = 1,
    trust: bool = False,
) -> None:
    """Answers questions about images, point clouds or objects in them.

    Args:
        question: the question; options may follow on a line of their own, lettered as (A) red (B) blue.
        questions: file with a question on each line, instead of one question; each is asked about every image or
            cloud.
        image: image file, several of them, or a folder whose images are all asked about, one after another; omit it
            for a question without one. If the question has the placeholder <image> for each of them, it is about all
            of them together, in this order.
        cloud: point cloud or mesh (PLY, PCD, XYZ, OBJ, OFF, STL, .npy, .npz), z up, in metres, several of them or
            a folder; omit it for a question without one. A mesh of ScanNet is aligned with the .txt file next to it.
        box: the object of the cloud that the question is about: centre and size of its box as "x y z dx dy
            dz" in the aligned cloud, or "all" if the cloud is one object. Without it the question is about
            the scene.
        media: files of any modality that the model has an encoder for, as --media.NAME FILE.
        json: print each answer as a line of JSON, with the boxes that it names and the weights of the experts.
        out: folder for answers.jsonl, and for a file with the boxes of each answer that names some: the picture
            with the boxes drawn, or for a cloud the boxes alone as .ply, to be opened beside it.
        ckpt: a checkpoint of `octavius fit` with its configuration next to it, or a folder of `octavius
            export`.
        max_new_tokens: maximum length of the answer.
        num_beams: number of beams in beam search; 1 is greedy.
        trust: let the configuration that came with the checkpoint name any class, which runs its code.
    """
    SIZE_RANGE.check(max_new_tokens=max_new_tokens, num_beams=num_beams)
    asked = questions_of(question, questions)
    images, clouds = files_of(image, "image"), files_of(cloud, "cloud")
    shown = tuple(Media(path=file) for file in images) if placed_in(asked, images) else ()
    if shown:
        images = []
    if len(images) > 1 and len(clouds) > 1:
        raise ValueError(
            "several images and several clouds: which belong together? Name one of either, or ask twice"
        )
    if len(clouds) > 1:
        inputs = [media_of(images[0] if images else None, file, box, media) for file in clouds]
    else:
        first: list[Path | None] = [*images] or [None]
        inputs = [media_of(file, clouds[0] if clouds else None, box, media) for file in first]
    if out is not None:
        check_writable(out)
    module = load(find_checkpoint(ckpt), trust)
    takes = module.processor.loaders
    if unknown := sorted({*inputs[0], *(["image"] if shown else [])} - {*takes}):
        raise ValueError(
            f"this model has no encoder for {', '.join(unknown)}{nearest(unknown[0], takes)}; it takes "
            f"{', '.join(takes) or 'text alone'}"
        )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    module.to(device or "cpu")
    turns = [(text, media_items) for media_items in inputs for text in asked]
    answers, unread = list[Prediction](), 0
    for text, media_items in tqdm(turns, unit="answer", disable=len(turns) == 1 or not sys.stderr.isatty()):
        try:
            answer, gate_weights = ask(module, text, media_items, max_new_tokens, num_beams, shown)
        except ValueError as error:
            if len(turns) == 1:
                raise
            tqdm.write(f"octavius: not answered: {error}", file=sys.stderr)
            unread += 1
            continue
        answers.append(Prediction(text, media_items, answer, gate_weights, shown))
        tqdm.write(answers[-1].line() if json else answers[-1].printed(len(inputs) > 1, len(asked) > 1))
        if not json and len(turns) == 1 and (used := answers[-1].experts()):
            print(f"experts: {used}")
    if out is not None:
        write(out, answers)
    if unread:
        raise ValueError(f"{unread} of {len(turns)} questions were not answered, as listed above")


def placed_in(questions: Sequence[str], images: Sequence[Path]) -> bool:
    """Whether the images stand at placeholders in the questions.

    Raises:
        ValueError: they do, but a question has another number of placeholders, or there is no such file.
    """
    counts = [counted([text], "image") for text in questions]
    if not images or not any(counts):
        return False
    for text, count in zip(questions, counts, strict=True):
        if count != len(images):
            raise ValueError(
                f"the question {text!r:.80} has the placeholder <image> {count} times, and there are {len(images)} "
                "images; write it once for each, or leave it out to ask about each image alone"
            )
    for file in images:
        if not file.is_file():
            raise ValueError(f"there is no image file at {file.absolute()}; check --image")
    return True


def media_of(
    image: Path | None = None,
    cloud: Path | None = None,
    box: str | None = None,
    others: Mapping[str, Path] | None = None,
) -> dict[str, Media]:
    """The media of a question, by modality.

    Args:
        image: image file.
        cloud: point cloud.
        box: object of the cloud.
        others: modality to its file.

    Raises:
        ValueError: a file does not exist, the box is malformed, or there is a box without a cloud.
    """
    named = {name: path for name, path in (("image", image), ("cloud", cloud)) if path is not None}
    media = {}
    for name, path in {**(others or {}), **named}.items():
        if not path.is_file():
            option = name if name in named else f"media.{name}"
            raise ValueError(f"there is no {name} file at {path.absolute()}; check --{option}")
        media[name] = Media(path=path)
    cloud = cloud or (others or {}).get("cloud")
    if cloud is None and box is not None:
        raise ValueError("--box means an object of a point cloud; name that with --cloud")
    if cloud is not None:
        info = info_beside(cloud)
        pose = None if info is None else axis_alignment(info)
        try:
            region = None if box is None else region_of(box)
        except ValueError as error:
            raise ValueError(f"--box {error}") from None
        media["cloud"] = Media(path=cloud, pose=pose, region=region)
    return media


def ask(
    module: OctaviusModule,
    question: str,
    media: Mapping[str, Media],
    max_new_tokens: int = 128,
    num_beams: int = 1,
    images: Sequence[Media] = (),
) -> tuple[str, list[float] | None]:
    """Generates one answer.

    Args:
        module: the model.
        question: the question.
        media: modality to medium; empty for a question without media.
        max_new_tokens: maximum length of the answer.
        num_beams: number of beams in beam search; 1 is greedy.
        images: images that stand at placeholders in the question.

    Returns:
        The answer, and the gate weights of the experts; None without experts.

    Raises:
        ValueError: the question is empty or too long, or a medium cannot be read.
    """
    sample = sample_of(question, media, [("image", item) for item in images])
    module.model.prepare(lambda: [sample], module.device)
    try:
        example = module.processor.build_example(sample, question, None)
    except TooLongError:
        most = module.processor.prompts.max_tokens
        raise ValueError(
            f"the question and its media have more than {most:,} tokens, the max_tokens of the model; shorten it"
        ) from None
    except ValueError as error:
        raise ValueError(str(error).removeprefix("sample question of demo: ")) from None
    batch = module.processor.collate([example])
    with torch.inference_mode():
        texts, gate_weights = module.answer(batch.to(module.device), max_new_tokens, num_beams=num_beams)
    return texts[0], None if gate_weights is None else gate_weights[0].tolist()
