"""Loads the reader of point clouds from a published checkpoint of Octavius."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from octavius.encoders.rois.object_as_scene import ObjectAsScene


def fill_reader(state: Mapping[str, Tensor], module: ObjectAsScene) -> None:
    """Loads the point-cloud part of a released checkpoint of Octavius into a reader; other tensors are ignored.

    The published model has no learned object for empty scenes: `nothing` is unchanged.

    Args:
        state: tensors of the released file by name, as returned by `torch.load`.
        module: a reader of the published sizes (`ReaderSizes`), with features of width 768 and the hidden
            size of its language model (5120).

    Raises:
        ValueError: tensors are missing or unknown, or have other shapes.
    """
    expected = module.state_dict()
    names = {published: name for published, name in _published_names(len(module.layers))}
    if extra := sorted(expected.keys() - set(names.values()) - {"nothing"}):
        raise ValueError(
            f"the published reader has no tensors {', '.join(extra)}; make one whose features are as wide as its "
            "attention, and whose order is 0"
        )
    given = {name for name in state if name.startswith(("resampler_3d.", "pos_3d_proj.", "llama_proj_3d."))}
    missing, unknown = sorted(names.keys() - given), sorted(given - names.keys())
    if missing or unknown:
        raise ValueError(
            f"the file does not fit a reader of {len(module.layers)} layers. Missing in the file: "
            f"{', '.join(missing[:3]) or 'none'}. Not in this reader: {', '.join(unknown[:3]) or 'none'}. Set "
            "`layers` to the file's, and take a checkpoint that was trained with point clouds"
        )
    for published, name in names.items():
        if state[published].shape != expected[name].shape:
            raise ValueError(
                f"{published} is {tuple(state[published].shape)} in the file, but {tuple(expected[name].shape)} in "
                "this reader; give it the sizes of the file"
            )
    module.load_state_dict({name: state[published] for published, name in names.items()}, strict=False)


def _published_names(layers: int) -> Iterator[tuple[str, str]]:
    """Pairs of the published name and our name of each tensor."""
    yield "resampler_3d.query_embed.weight", "queries"
    ends = ("weight", "bias")
    linear = {"q": "query", "k": "key", "v": "value", "o": "out"}
    for end in ends:
        yield from ((f"pos_3d_proj.{index}.{end}", f"place.{index}.{end}") for index in (0, 2))
        yield from ((f"llama_proj_3d.{index}.{end}", f"leave.{index}.{end}") for index in (0, 1))
        for layer in range(layers):
            for kind, name in (("cross_attn", "cross"), ("self_attn", "own")):
                theirs, ours = f"resampler_3d.{kind}.{layer}", f"layers.{layer}.{name}"
                yield f"{theirs}.layer_norm.{end}", f"{ours}.norm.{end}"
                for letter, part in linear.items():
                    yield f"{theirs}.attention.fc_{letter}.{end}", f"{ours}.{part}.{end}"
