"""A checkpoint or export, a picture or cloud and a question come in; an answer and its experts go out."""

from collections.abc import Mapping
from pathlib import Path

import torch

from octavius.boxes3d import PLAIN, problem
from octavius.display import visible
from octavius.instruction.sample import Media, References, Region, Sample
from octavius.instruction.scan_frame import axis_alignment, info_beside
from octavius.limits import SIZE
from octavius.loading import load
from octavius.presets import find_checkpoint
from octavius.training import OctaviusModule


def predict(
    question: str,
    image: Path | None = None,
    cloud: Path | None = None,
    box: str | None = None,
    ckpt: str = "last.ckpt",
    max_new_tokens: int = 128,
    num_beams: int = 1,
    trust: bool = False,
) -> None:
    """Answers a question about an image file, about a point cloud or one object in it, from a checkpoint.

    Args:
        question: what to ask; options may follow on a line of their own, lettered as (A) red (B) blue.
        image: the picture; leave it out for a question about none.
        cloud: the points (.ply or .npy), z up and in metres; a mesh of ScanNet is aligned as the .txt beside it
            tells. Leave it out for a question about none.
        box: the object of the cloud that is asked about: its centre and size as "x y z dx dy dz", in the aligned
            cloud; or "all" where the cloud is one object. Without it the question is about the scene.
        ckpt: a checkpoint of `octavius fit`, with its configuration beside it, or a folder of `octavius export`.
        max_new_tokens: the longest answer.
        num_beams: beams of the search; 1 is greedy.
        trust: let the configuration that came with the checkpoint name any class, which runs its code.
    """
    SIZE.check(max_new_tokens=max_new_tokens, num_beams=num_beams)
    if not question.strip():
        raise ValueError('the question is empty; ask something, such as --question "Describe the picture."')
    media = media_of(image, cloud, box)
    module = load(find_checkpoint(ckpt), trust)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    text, gate = ask(module.to(device or "cpu"), question, media, max_new_tokens, num_beams)
    print(visible(text, len(text), breaks=True))
    if gate is not None and len(gate) > 1:
        used = (f"{place} ({weight:.2f})" for place, weight in enumerate(gate) if weight > 0)
        print(f"experts: {', '.join(used)}")


def media_of(
    image: Path | None = None, cloud: Path | None = None, box: str | None = None
) -> dict[str, Media]:
    """What a question is asked about, by modality.

    Raises:
        ValueError: there is no such file, a box is none, or is of no cloud.
    """
    media = {}
    for name, path in (("image", image), ("cloud", cloud)):
        if path is None:
            continue
        if not path.is_file():
            raise ValueError(f"there is no {name} file at {path.absolute()}; check --{name}")
        media[name] = Media(path=path)
    if cloud is None and box is not None:
        raise ValueError("--box means an object of a point cloud; name that with --cloud")
    if cloud is not None:
        info = info_beside(cloud)
        pose = None if info is None else axis_alignment(info)
        media["cloud"] = Media(path=cloud, pose=pose, region=None if box is None else region_of(box))
    return media


def region_of(box: str) -> Region:
    """The object that a text means: `all` of the cloud, or what is in a box.

    >>> region_of("1 2 0.5 1 1 1").box
    (1.0, 2.0, 0.5, 1.0, 1.0, 1.0)
    """
    if box.strip() == "all":
        return Region("all", None)
    try:
        numbers = [float(word) for word in box.replace(",", " ").split()]
    except ValueError:
        said: str | None = "it holds what is no number"
    else:
        said = problem(numbers) if len(numbers) == PLAIN else f"it has {len(numbers)} numbers"
    if said:
        raise ValueError(
            f'--box "{box}" is no box: {said}; expected its centre and size in metres as "x y z dx dy dz", '
            "or all"
        )
    x, y, z, dx, dy, dz = numbers
    return Region(box, (x, y, z, dx, dy, dz))


def ask(
    module: OctaviusModule,
    question: str,
    media: Mapping[str, Media],
    max_new_tokens: int = 128,
    num_beams: int = 1,
) -> tuple[str, list[float] | None]:
    """One answer, and the routing weights of the experts.

    Args:
        module: the model.
        question: what to ask.
        media: modality to what is asked about; empty for a question about nothing.
        max_new_tokens: the longest answer.
        num_beams: beams of the search; 1 is greedy.
    """
    sample = Sample("question", "conversation", "demo", media, question, References(("",)))
    module.model.prepare(lambda: [sample], module.device)
    batch = module.processor.collate([module.processor.example(sample, question, None)])
    with torch.inference_mode():
        texts, gate = module.answer(batch.to(module.device), max_new_tokens, num_beams=num_beams)
    return texts[0], None if gate is None else gate[0].tolist()
