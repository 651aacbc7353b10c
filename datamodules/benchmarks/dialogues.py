"""Turns of a conversation in the format of LLaVA and LAMM, with checks that no content is dropped silently.

An item with a video, several images, tools or a system prompt is refused rather than read without them. So is
a text with the placeholder of a medium that the item does not have: the model would learn to write the
placeholder.
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
        *(
            "pic",
            "pics",
            "figure",
            "figures",
            "screenshot",
            "screenshots",
            "gif",
            "gifs",
            "visual",
            "visuals",
        ),
    ),
    *(
        "video",
        "videos",
        "vid",
        "vids",
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
        "features",
    ),
    *_CLOUDS,
)
"""Words in names of keys that refer to a medium."""

OTHERS = (
    *("system", "system_prompt", "instruction", "instructions", "input", "inputs", "context"),
    *("tools", "tool_calls", "functions", "function_call", "messages"),
)
"""Keys that hold other content without which a conversation makes no sense."""

MASKS = ("loss", "loss_mask", "weight", "mask", "train")
"""Keys of turns by which other trainers leave an answer out of the loss."""

_FILE = re.compile(
    r"\.(jpe?g|png|avif|heic|svg|gif|bmp|webp|tiff?|mp4|avi|mov|mkv|webm|wav|mp3|flac|ogg|m4a|npy|npz|h5|ply|pcd|obj|glb|stl|pdf)"
    r"(?:[?#].*)?$",
    re.IGNORECASE,
)

# Placeholders in use: <image>, <Video_1>, <|audio_pad|>, <ImageHere>, </Img>, [IMG]. Not after a letter,
# where it is a type in a program, such as List<Image>.
_PLACEHOLDER = re.compile(
    r"(?<!\w)(?:<|&lt;)\|?/?(?:image|img|im(?=[-_](?:start|end|patch|pad))|picture|photo|figure|screenshot|gif|frame"
    r"|video|vid|clip|audio|sound|speech|voice|music|points?|pcl|pcd|(?:points?[-_ ]?)?clouds?|depth|thermal|tactile"
    r"|mesh|vision|visual|media)s?"
    r"(?:[-_ ]?(?:start|end|pad|patch|tokens?|embeds?|features?|frames?|clip|map|placeholder|here|history"
    r"|[0-9]{1,4})){0,3}\|?\s?/?(?:>|&gt;)"
    r"|<img\s[^>\n]{1,500}>|!\[[^\]\n]{0,200}\]\([^)\n]{1,500}\)|\{(?:image|video|audio)\}"
    r"|(?-i:\[/?(?:IMG|IMAGE|VIDEO|AUDIO)(?:_[A-Z]+|[0-9]+)?\])",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def refuse_unknown(record: Mapping[str, object], known: Collection[str], clouds: bool = False) -> None:
    """Refuses an item or a turn with a key whose content would not be read.

    Other unknown keys are metadata (`model`, `source`) and ignored.

    Args:
        record: the item or turn.
        known: keys that the reader uses, or that are known to be metadata.
        clouds: ignore keys that refer to point clouds, as where the scene's name leads to the cloud.

    Raises:
        BadItemError: there is such a key.
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
        if medium or re.sub(r"[- ]", "_", key.casefold()) in OTHERS or _names_a_file(value):
            raise BadItemError(
                f"the key {shown(key)} ({shown(value)}) brings what is not read here; "
                f"read are {', '.join(sorted(known))}"
            )


def _names_a_file(value: object) -> bool:
    """Whether a value is the file name of a medium, or a container with one; looks at the first 1,000 values."""
    waiting = [value]
    for _ in range(1000):  # no recursion: JSON may be nested as deep as Python's own calls
        if not waiting:
            break
        one = waiting.pop()
        if isinstance(one, dict):
            if str(one.get("type", "")).casefold().removesuffix("_url") in MEDIA:  # OpenAI's content parts
                return True
            waiting += [*one.values()][:100]
        elif isinstance(one, list):
            waiting += one[:100]
        elif isinstance(one, str) and len(one) < 4096 and _FILE.search(one.strip()) is not None:
            return True
    return False


def refuse_placeholders(said: str, what: str, has_media: bool) -> None:
    """Refuses a text with the placeholder of a medium, unless it is in Markdown code.

    In an item without media it may be about web pages or programs, as in the ShareGPT texts of LLaVA's
    mixture: such an item is left out as a known blemish.

    Raises:
        BadItemError: the text has a placeholder.
    """
    if found := _PLACEHOLDER.search(_CODE.sub(" ", said)):
        kind = BadItemError if has_media else BlemishError
        raise kind(
            f"{what} shows {found[0]}, the place-holder of a medium that the item does not bring there"
        )


def turns_of(conversation: list[object]) -> list[tuple[str, str]]:
    """The (human, gpt) pairs of a conversation.

    Raises:
        BadItemError: the turns do not alternate, beginning with `human`, or one is malformed.
    """
    said = []
    for index, turn in enumerate(conversation):
        if isinstance(turn, dict) and "from" not in turn and "role" in turn:
            raise BadItemError(
                f"conversations[{index}] has a 'role'; expected 'from' (human or gpt) and 'value'"
            )
        speaker, expected = take(turn, "from", str), SPEAKERS[index % 2]
        if index == 0 and speaker == "gpt":
            raise BlemishError("it begins with an answer (from 'gpt'), as some of LLaVA's mixture do")
        if speaker != expected:
            raise BadItemError(
                f"conversations[{index}] should be from '{expected}', found {shown(speaker)}; turns of a system or "
                "of tools are not read"
            )
        assert isinstance(turn, dict)
        refuse_unknown(turn, ("from", "value"))
        if masks := [key for key in MASKS if key in turn and turn[key] not in (1, None)]:
            raise BadItemError(
                f"conversations[{index}] has {masks[0]}: {shown(turn[masks[0]])}; every answer is trained here, "
                "leave out the key or the conversation"
            )
        what = f"conversations[{index}]"
        value = take(turn, "value", str)
        said.append(full_text(value, f"the answer {what}") if expected == "gpt" else text(value, what))
    if not said or len(said) % 2:
        raise BadItemError(f"expected pairs of a human and a gpt turn, found {len(said)} turns")
    return list(zip(said[::2], said[1::2], strict=True))


def without_image(questions: list[str], has_image: bool) -> list[str]:
    """Removes the placeholder of the image, allowed once and at either end of a question.

    LAMM's questions have no placeholder and refer to the image all the same.

    Raises:
        BadItemError: a placeholder is misplaced or repeated, or the item has no image.
    """
    count = sum(question.count(PLACEHOLDER) for question in questions)
    if has_image and count > 1:
        raise BadItemError(
            f"{PLACEHOLDER} stands {count} times, but an item has one image; expected it once (the reader `messages` "
            "takes several)"
        )
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
