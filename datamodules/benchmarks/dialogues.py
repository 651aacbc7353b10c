"""Turns of a conversation in the form of LLaVA and LAMM, and what in an item would be lost without a word.

An item that brings a video, several pictures, tools or a system text is refused, not read without them; so is a text
in which the place-holder of a medium stands that the item does not bring: the model would be taught the place-holder
itself as a word.
"""

import re
from collections.abc import Collection, Mapping

from datamodules.benchmarks.base import BadItemError, BlemishError
from datamodules.benchmarks.values import full_text, shown, take, text

PLACEHOLDER = "<image>"
SPEAKERS = ("human", "gpt")

_CLOUDS = (
    "point",
    "points",
    "pcl",
    "pc",
    "pcd",
    "cloud",
    "clouds",
    "pointcloud",
    "pointclouds",
    "lidar",
    "scene",
)
MEDIA = (
    *(
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "photo",
        "photos",
        "frame",
        "frames",
        "pixels",
    ),
    *(
        "video",
        "videos",
        "clip",
        "clips",
        "audio",
        "audios",
        "sound",
        "sounds",
        "speech",
        "voice",
        "music",
        "wav",
    ),
    *(
        "depth",
        "depths",
        "thermal",
        "infrared",
        "mesh",
        "meshes",
        "voxel",
        "voxels",
        "imu",
        "tactile",
        "media",
        "pdf",
    ),
    *_CLOUDS,
)
"""Words in the names of keys that stand for a medium."""

OTHERS = ("system", "tools", "tool_calls", "functions", "function_call", "messages")
"""Keys whose content a conversation cannot do without either."""

_FILE = re.compile(
    r"\.(jpe?g|png|gif|bmp|webp|tiff?|mp4|avi|mov|mkv|webm|wav|mp3|flac|ogg|m4a|npy|npz|ply|pcd|obj|glb|stl|pdf)$",
    re.IGNORECASE,
)

# A place-holder as the field writes it: <image>, <Video_1>, <|audio_pad|>, <ImageHere>, </Img>, [IMG]. Not after a
# letter, where it is a type of a program, such as List<Image>.
_PLACEHOLDER = re.compile(
    r"(?<!\w)<\|?/?(?:image|img|im(?=[-_](?:start|end|patch|pad))|picture|photo|frame|video|vid|clip|audio|sound"
    r"|speech|voice|music|points?|pcl|pcd|(?:points?[-_ ]?)?clouds?|depth|thermal|mesh|vision|visual|media)"
    r"(?:[-_ ]?(?:start|end|pad|patch|token|embeds?|features?|placeholder|here|history|[0-9]{1,4})){0,3}\|?>"
    r"|(?-i:\[/?(?:IMG|IMAGE|VIDEO|AUDIO)(?:_[A-Z]+|[0-9]+)?\])",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def refuse_unknown(record: Mapping[str, object], known: Collection[str], clouds: bool = False) -> None:
    """Refuses an item, or a turn, with a key that brings what is not read.

    Other keys are remarks of whoever made the file (`model`, `source`), and passed over.

    Args:
        record: the item.
        known: keys that its reader reads, or that are known to be remarks.
        clouds: whether keys that stand for point clouds are remarks, as where the name of the scene leads to one.
    """
    for key, value in record.items():
        if key in known or value is None or value in ("", [], {}):
            continue
        words = set(
            re.sub(r"([a-z])([A-Z])", r"\1 \2", key).casefold().replace("_", " ").replace("-", " ").split()
        )
        medium = {word.rstrip("0123456789") for word in words} & set(MEDIA)
        if clouds:
            medium -= set(_CLOUDS)
        if medium or key in OTHERS or _names_a_file(value):
            raise BadItemError(
                f"the key {shown(key)} ({shown(value)}) brings what is not read here; "
                f"read are {', '.join(sorted(known))}"
            )


def _names_a_file(value: object) -> bool:
    """Whether a value is the name of a medium's file, or a list with one."""
    if isinstance(value, list):
        return any(isinstance(one, str | dict | list) and _names_a_file(one) for one in value[:100])
    if isinstance(value, dict):
        return any(_names_a_file(one) for one in value.values() if isinstance(one, str))
    return isinstance(value, str) and len(value) < 4096 and _FILE.search(value.strip()) is not None


def refuse_placeholders(said: str, what: str, has_media: bool) -> None:
    """Refuses a text that shows the place-holder of a medium, code in it apart.

    In an item without any medium it may be talk about web pages or programs, as in the texts that LLaVA's mixture
    takes from ShareGPT: such an item is left out as a known blemish.
    """
    if found := _PLACEHOLDER.search(_CODE.sub(" ", said)):
        kind = BadItemError if has_media else BlemishError
        raise kind(
            f"{what} shows {found[0]}, the place-holder of a medium that the item does not bring there"
        )


def turns_of(conversation: list[object]) -> list[tuple[str, str]]:
    """The (human, gpt) pairs of a conversation."""
    said = []
    for place, turn in enumerate(conversation):
        if isinstance(turn, dict) and "from" not in turn and "role" in turn:
            raise BadItemError(
                f"conversations[{place}] has a 'role'; expected 'from' (human or gpt) and 'value'"
            )
        speaker, expected = take(turn, "from", str), SPEAKERS[place % 2]
        if place == 0 and speaker == "gpt":
            raise BlemishError("it begins with an answer (from 'gpt'), as some of LLaVA's mixture do")
        if speaker != expected:
            raise BadItemError(
                f"conversations[{place}] should be from '{expected}', found {shown(speaker)}; turns of a system or "
                "of tools are not read"
            )
        assert isinstance(turn, dict)
        refuse_unknown(turn, ("from", "value"))
        what = f"conversations[{place}]"
        value = take(turn, "value", str)
        said.append(full_text(value, f"the answer {what}") if expected == "gpt" else text(value, what))
    if not said or len(said) % 2:
        raise BadItemError(f"expected pairs of a human and a gpt turn, found {len(said)} turns")
    return list(zip(said[::2], said[1::2], strict=True))


def without_image(questions: list[str], has_image: bool) -> list[str]:
    """What the human said, without the place-holder of the image, which stands once at most, at an end of a text.

    LAMM's texts have none, and mean the item's image all the same.
    """
    count = sum(question.count(PLACEHOLDER) for question in questions)
    if has_image and count > 1:
        raise BadItemError(f"{PLACEHOLDER} stands {count} times, but an item has one image; expected it once")
    bare = []
    for question in questions:
        rest = question.removeprefix(PLACEHOLDER)
        rest = question.removesuffix(PLACEHOLDER) if rest == question else rest
        if rest != question and not has_image:
            raise BadItemError(f"a question shows {PLACEHOLDER}, but the item has no 'image'")
        if has_image and PLACEHOLDER in rest:
            raise BadItemError(f"expected {PLACEHOLDER} at an end of the question, found {shown(question)}")
        bare.append(rest.strip())
    return bare
