"""Checks that pretrained weights match an open_clip model in what shapes do not reveal.

Weights load into every model of their shapes, but were trained with one activation (QuickGELU or GELU) and
one normalization of the pixels. With another, features are wrong and nothing fails: open_clip warns of a
wrong activation for its own tags, and is silent for files.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from lightning.pytorch.utilities import rank_zero_warn

from octavius.files import read_text
from octavius.suggestions import nearest

BESIDE = "open_clip_config.json"
"""Name of the configuration next to a weight file in hub folders."""


class Source(NamedTuple):
    """How a set of weights was trained.

    Attributes:
        origin: where this is known from, for messages.
        quick_gelu: whether its activation is QuickGELU.
        mean: mean of each colour channel in the pixel normalization; None if unknown.
        std: standard deviation of each colour channel; None if unknown.
    """

    origin: str
    quick_gelu: bool
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def check_weights(name: str, pretrained: str) -> dict[str, Any]:
    """Refuses weights that were trained with another activation than the model's.

    Args:
        name: an open_clip model name.
        pretrained: tag of its weights, or a file.

    Returns:
        Further arguments of `open_clip.create_model`: the pixel normalization that belongs to a file.

    Raises:
        ValueError: there is no such tag or file, or the weights need another model, which the message names.
    """
    if pretrained in open_clip.list_pretrained_tags_by_model(name):
        facts = open_clip.get_pretrained_cfg(name, pretrained)
        _check_activation(name, pretrained, _source(f"the tag {pretrained!r}", facts))
        return {}
    if not Path(pretrained).is_file():
        raise ValueError(_unknown(name, pretrained))
    return _check_file(name, Path(pretrained))


def _check_file(name: str, file: Path) -> dict[str, Any]:
    """`check_weights` for a file, whose origin is derived from its name, its folder and a nearby configuration."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(entry.rpartition("/")[2] == "constants.pkl" for entry in archive.namelist()):
                raise ValueError(
                    f"{file} is a TorchScript archive, the form in which OpenAI published CLIP, and holds code "
                    "besides the weights. Take the same weights as safetensors: the tag 'openai' of "
                    f"{_quick(name, True)}"
                )
    source = _source_of(file)
    if source is not None:
        _check_activation(name, str(file), source)
    elif (twin := _twin(name)) is not None:
        rank_zero_warn(
            f"nothing tells how the weights in {file} were trained: they are read as {name!r}, with "
            f"{_activation(_is_quick(name))}. If they were trained with {_activation(_is_quick(twin))} (those of "
            f"OpenAI, MetaCLIP and DFN are of QuickGELU), the features are wrong: take the name {twin!r} then"
        )
    found = [source] if source is not None and source.mean else [*_tags_of(name)]
    normalisations = {(one.mean, one.std) for one in found}
    if len(normalisations) == 1:
        mean, std = normalisations.pop()
        return {"force_preprocess_cfg": {"mean": mean, "std": std}}
    if normalisations:
        rank_zero_warn(
            f"nothing tells how pixels were normalised for the weights in {file}, and the published weights of "
            f"{name!r} differ in it: OpenAI's mean and deviation are taken. If that is wrong, put the {BESIDE} of "
            "the weights beside the file"
        )
    return {}


def _check_activation(name: str, pretrained: str, source: Source) -> None:
    """Refuses the model if open_clip has an otherwise equal one with the activation of the weights."""
    twin = _twin(name)
    if source.quick_gelu != _is_quick(name) and twin is not None:
        raise ValueError(
            f"the image encoder {name!r} has {_activation(_is_quick(name))}, but the weights {pretrained!r} were "
            f"trained with {_activation(source.quick_gelu)}, as {source.origin} says: its features would be wrong. "
            f"Set the encoder's name to {twin!r}"
        )


def _source_of(file: Path) -> Source | None:
    """How the weights in a file were trained, as far as its path reveals."""
    beside = file.resolve().parent / BESIDE
    if not beside.is_file():
        beside = file.absolute().parent / BESIDE  # the hub's cache consists of links
    if beside.is_file():
        try:
            facts = json.loads(read_text(beside))
            pixels = facts.get("preprocess_cfg", {})
            return _source(str(beside), {**facts["model_cfg"], **pixels})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{beside} cannot be read as a configuration of open_clip: {error!r}") from None
    parts = {part.lower() for part in file.absolute().parts}
    sources = {
        _source(f"the name of the weights {tag!r} of {model!r}", facts)._replace(origin="the file's name")
        for model, tag in open_clip.list_pretrained()
        for facts in [open_clip.get_pretrained_cfg(model, tag)]
        if _is_named_after(parts, file.name.lower(), facts)
    }
    return sources.pop() if len(sources) == 1 else None


def _is_named_after(parts: set[str], name: str, facts: dict[str, Any]) -> bool:
    """Whether a file is named like published weights, or lies in a folder named like their repository."""
    hub = str(facts.get("hf_hub") or "").lower().rstrip("/")
    published = str(facts.get("url") or "").lower().rpartition("/")[2]
    owner, _, repository = hub.partition("/")
    folders = {repository, f"models--{owner}--{repository}"} if repository else set()
    return bool(folders & parts) or (published != "" and name == published)


def _source(origin: str, facts: dict[str, Any]) -> Source:
    mean, std = (tuple(facts[key]) if facts.get(key) else None for key in ("mean", "std"))
    return Source(origin, bool(facts.get("quick_gelu", False)), mean, std)


def _tags_of(name: str) -> Iterator[Source]:
    for tag in open_clip.list_pretrained_tags_by_model(name):
        yield _source(tag, open_clip.get_pretrained_cfg(name, tag))


def _twin(name: str) -> str | None:
    """The open_clip model that differs from this one in its activation only, if there is one."""
    config = _config(name)
    for other in open_clip.list_models():
        found = _config(other)
        if bool(found.pop("quick_gelu", False)) != _is_quick(name) and found == {
            key: value for key, value in config.items() if key != "quick_gelu"
        }:
            return str(other)
    return None


def _quick(name: str, wanted: bool) -> str:
    """Of this model and its twin, the name of the one with that activation."""
    return name if _is_quick(name) is wanted else (_twin(name) or name)


def _is_quick(name: str) -> bool:
    return bool(_config(name).get("quick_gelu", False))


def _config(name: str) -> dict[str, Any]:
    return dict(open_clip.get_model_config(name) or {})


def _activation(quick: bool) -> str:
    return "QuickGELU" if quick else "GELU"


def _unknown(name: str, pretrained: str) -> str:
    """Message that a model has no such weights, with hints at models that have."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    owners = open_clip.list_pretrained_models_by_tag(pretrained)
    twin = _twin(name)
    if twin in owners:
        hint = (
            f"; they are of {twin!r}, which differs from it in its activation: set the encoder's name to that"
        )
    else:
        hint = f"; weights of that name are of {', '.join(owners)}" if owners else nearest(pretrained, tags)
    return (
        f"'{name}' has no pretrained weights '{pretrained}', and there is no such file{hint}; known tags: "
        f"{', '.join(tags) or 'none'}"
    )
