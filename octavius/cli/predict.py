"""The command `octavius predict`: answers one question about an image or a point cloud."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from octavius.checkpoint.load import load
from octavius.cli.reporting import reporting_errors
from octavius.cli.usage import HELP_ALL
from octavius.configuration.functions import call
from octavius.display import visible
from octavius.instruction.sample import Media, References, Sample
from octavius.limits import SIZE
from octavius.media.regions import region_of
from octavius.media.scan_frame import axis_alignment, info_beside
from octavius.presets import find_checkpoint
from octavius.suggestions import nearest
from octavius.training import OctaviusModule


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command alone, without the imports of the others.

    Args:
        args: the arguments, which begin with `predict`; None for those of the process.
    """
    reporting_errors(run, args)


def run(argv: list[str]) -> None:
    """Runs the command; errors propagate."""
    command, *options = ["--help" if argument == HELP_ALL else argument for argument in argv]
    call(predict, command, options, positional=False)


def predict(
    question: str,
    image: Path | None = None,
    cloud: Path | None = None,
    box: str | None = None,
    media: dict[str, Path] | None = None,
    ckpt: str = "last.ckpt",
    max_new_tokens: int = 128,
    num_beams: int = 1,
    trust: bool = False,
) -> None:
    """Answers a question about an image, a point cloud or one object in it.

    Args:
        question: the question; options may follow on a line of their own, lettered as (A) red (B) blue.
        image: image file; omit it for a question without one.
        cloud: point cloud (.ply or .npy), z up, in metres; omit it for a question without one. A mesh of
            ScanNet is aligned with the .txt file next to it.
        box: the object of the cloud that the question is about: centre and size of its box as "x y z dx dy
            dz" in the aligned cloud, or "all" if the cloud is one object. Without it the question is about
            the scene.
        media: files of any modality that the model has an encoder for, as --media.NAME FILE.
        ckpt: a checkpoint of `octavius fit` with its configuration next to it, or a folder of `octavius
            export`.
        max_new_tokens: maximum length of the answer.
        num_beams: number of beams in beam search; 1 is greedy.
        trust: let the configuration that came with the checkpoint name any class, which runs its code.
    """
    SIZE.check(max_new_tokens=max_new_tokens, num_beams=num_beams)
    if not question.strip():
        raise ValueError('the question is empty; ask something, such as --question "Describe the picture."')
    found = media_of(image, cloud, box, media)
    module = load(find_checkpoint(ckpt), trust)
    if unknown := sorted(set(media or {}) - set(module.model.encoders)):
        known = ", ".join(module.model.encoders) or "none"
        raise ValueError(
            f"this model has no encoder for {', '.join(unknown)}{nearest(unknown[0], module.model.encoders)}"
            f"; it takes {known}"
        )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    text, gate = ask(module.to(device or "cpu"), question, found, max_new_tokens, num_beams)
    print(visible(text, len(text), breaks=True))
    if gate is not None and len(gate) > 1:
        used = (f"{index} ({weight:.2f})" for index, weight in enumerate(gate) if weight > 0)
        print(f"experts: {', '.join(used)}")


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
) -> tuple[str, list[float] | None]:
    """Generates one answer.

    Args:
        module: the model.
        question: the question.
        media: modality to medium; empty for a question without media.
        max_new_tokens: maximum length of the answer.
        num_beams: number of beams in beam search; 1 is greedy.

    Returns:
        The answer, and the gate weights of the experts; None without experts.
    """
    sample = Sample("question", "conversation", "demo", media, question, References(("",)))
    module.model.prepare(lambda: [sample], module.device)
    batch = module.processor.collate([module.processor.example(sample, question, None)])
    with torch.inference_mode():
        texts, gate = module.answer(batch.to(module.device), max_new_tokens, num_beams=num_beams)
    return texts[0], None if gate is None else gate[0].tolist()
