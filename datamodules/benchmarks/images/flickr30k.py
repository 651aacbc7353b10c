"""Captioning on Flickr30k, from Karpathy's JSON or the official token file."""

from collections.abc import Iterator
from pathlib import Path

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.documents import load_json, read_lines
from datamodules.benchmarks.values import shown, take, take_text
from octavius.instruction.sample import Media, References, Sample
from octavius.suggestions import nearest

KARPATHY = "dataset_flickr30k.json"
IMAGES = ("flickr30k-images/", "flickr30k_images/", "images/")

_PICTURES = "  <root>/flickr30k-images/*.jpg            or in <root>/flickr30k_images or <root>/images\n"

TOKENS = "results_20130124.token"

LAYOUT = f"""\
  <root>/dataset_flickr30k.json            Karpathy's captions and splits (train, val, test); or, without it,
  <root>/{TOKENS}            the captions, with a list <root>/<split>.txt of images
{_PICTURES}"""

TOKEN_LAYOUT = f"""\
  <root>/results_20130124.token            lines of <image>#<number>, a tab, the caption
  <root>/<split>.txt                       images of a split, one a line (Flickr30k Entities has such lists);
                                           or in <root>/flickr30k_entities; the split `all` needs none
{_PICTURES}"""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image of one of Karpathy's splits, with all its captions as references.

    Captioning results are usually reported on these splits (Karpathy and Fei-Fei 2015), which have 1,000 images each
    for validation and for testing. Without Karpathy's JSON file, the token file is read (`read_tokens`).
    """
    file = need(root, LAYOUT, KARPATHY, TOKENS)
    if file.name == TOKENS:
        return read_tokens(root, split, bad)
    images, items = DataFolder(need(root, LAYOUT, *IMAGES)), BadItems(bad, file)
    samples, splits = [], set()
    try:
        records = take(load_json(file, dict), "images", list)
    except BadItemError as error:
        raise ValueError(f"{file}: {error}. Is it Karpathy's file?") from None
    for index, record in enumerate(records):
        with items.guard(f"images[{index}]"):
            splits.add(take_text(record, "split"))
            if take_text(record, "split") == split:
                texts = tuple(take_text(sentence, "raw") for sentence in take(record, "sentences", list))
                samples.append(_sample(images, take_text(record, "filename"), texts))
    if split not in splits:
        raise ValueError(
            f"{file} has no split '{split}'{nearest(split, splits)}; it has {shown(sorted(splits))}"
        )
    items.report()
    return samples


def read_tokens(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image listed in `<split>.txt`, or of the whole token file (split `all`)."""
    file = need(root, TOKEN_LAYOUT, TOKENS)
    images, items = DataFolder(need(root, TOKEN_LAYOUT, *IMAGES)), BadItems(bad, file)
    texts: dict[str, dict[str, str]] = {}
    for number, line in read_lines(file):
        with items.guard(f"line {number}"):
            key, _, caption = line.partition("\t")
            name, _, count = key.rpartition("#")
            if not name or not count.isdecimal() or not caption.strip():
                raise BadItemError(f"expected <image>#<number>, a tab and a caption, found {shown(line)}")
            if texts.setdefault(name, {}).setdefault(count, caption.strip()) != caption.strip():
                raise BadItemError(f"caption {count} of {name} occurs twice, with different words")
    samples = []
    for where, name in [("", name) for name in texts] if split == "all" else _listed(root, split):
        with items.guard(where or f"image {name}"):
            if name not in texts:
                raise BadItemError(f"{TOKENS} has no caption of the image {shown(name)}")
            samples.append(_sample(images, name, tuple(texts[name].values())))
    items.report()
    return samples


def _listed(root: Path, split: str) -> Iterator[tuple[str, str]]:
    """(line of the list, image name) of a split's images; the lists of Flickr30k Entities omit `.jpg`."""
    file = need(root, TOKEN_LAYOUT, f"{split}.txt", f"flickr30k_entities/{split}.txt")
    for number, name in read_lines(file):
        yield f"{file.name} line {number}", name if name.lower().endswith(".jpg") else f"{name}.jpg"


def _sample(images: DataFolder, name: str, texts: tuple[str, ...]) -> Sample:
    if not texts:
        raise BadItemError(f"the image {shown(name)} has no caption")
    media = {"image": Media(path=images.file(name))}
    return Sample(name, "captioning", "flickr30k", media, "", References(texts))
