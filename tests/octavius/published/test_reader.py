"""The reader of a published checkpoint computes what its equations say."""

import math

import pytest
import torch
from torch import Tensor

from octavius.published.reader import fill_reader
from tests.octavius.encoders.rois.small import reader, scenes


def published(layers: int, width: int = 12, out: int = 9) -> dict[str, Tensor]:
    """Random tensors of the names and shapes of a released file, sizes apart, and one of the language model."""
    draw = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {"resampler_3d.query_embed.weight": (3, width)}
    for layer in range(layers):
        for kind in ("cross_attn", "self_attn"):
            for letter in "qkvo":
                name = f"resampler_3d.{kind}.{layer}.attention.fc_{letter}"
                shapes |= {f"{name}.weight": (width, width), f"{name}.bias": (width,)}
            name = f"resampler_3d.{kind}.{layer}.layer_norm"
            shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    shapes |= {"pos_3d_proj.0.weight": (5, 6), "pos_3d_proj.0.bias": (5,)}
    shapes |= {"pos_3d_proj.2.weight": (width, 5), "pos_3d_proj.2.bias": (width,)}
    shapes |= {"llama_proj_3d.0.weight": (out, width), "llama_proj_3d.0.bias": (out,)}
    shapes |= {"llama_proj_3d.1.weight": (out,), "llama_proj_3d.1.bias": (out,)}
    shapes["gating_network.w_gating"] = (out, 3)
    return {name: torch.randn(shape, generator=draw) * 0.5 for name, shape in shapes.items()}


def linear(state: dict[str, Tensor], name: str, vector: Tensor) -> Tensor:
    return state[f"{name}.weight"] @ vector + state[f"{name}.bias"]


def layer_norm(state: dict[str, Tensor], name: str, vector: Tensor) -> Tensor:
    spread = ((vector - vector.mean()) ** 2).mean()
    return (vector - vector.mean()) / (spread + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(state: dict[str, Tensor], name: str, asking: list[Tensor], asked: list[Tensor]) -> list[Tensor]:
    """Post-norm attention with two heads, number by number."""
    found = []
    for vector in asking:
        heads = []
        for head in (slice(0, 6), slice(6, 12)):
            query = linear(state, f"{name}.attention.fc_q", vector)[head]
            keys = [linear(state, f"{name}.attention.fc_k", other)[head] for other in asked]
            values = [linear(state, f"{name}.attention.fc_v", other)[head] for other in asked]
            weights = [math.exp(float(query @ key) / math.sqrt(6)) for key in keys]
            parts = [weight / sum(weights) * value for weight, value in zip(weights, values, strict=True)]
            heads.append(torch.stack(parts).sum(0))
        out = linear(state, f"{name}.attention.fc_o", torch.cat(heads))
        found.append(layer_norm(state, f"{name}.layer_norm", vector + out))
    return found


def slowly(state: dict[str, Tensor], features: Tensor, boxes: Tensor, layers: int) -> Tensor:
    """The published reader on one scene with objects, (queries, width_out)."""
    objects = []
    for feature, box in zip(features, boxes, strict=True):
        low, high = box[:3] - box[3:] / 2, box[:3] + box[3:] / 2
        hidden = linear(state, "pos_3d_proj.0", torch.cat([low, high])).clamp(min=0)
        objects.append(feature + linear(state, "pos_3d_proj.2", hidden))
    vectors = list(state["resampler_3d.query_embed.weight"])
    for layer in range(layers):
        vectors = attend(state, f"resampler_3d.cross_attn.{layer}", vectors, objects)
        vectors = attend(state, f"resampler_3d.self_attn.{layer}", vectors, vectors)
    projected = [linear(state, "llama_proj_3d.0", vector) for vector in vectors]
    return torch.stack([layer_norm(state, "llama_proj_3d.1", vector) for vector in projected])


@pytest.mark.parametrize("layers", [1, 2])
def test_published_tensors_give_what_the_equations_say(layers: int) -> None:
    state, counts = published(layers), [2, 1, 4]
    module, batch = reader(width_in=12, layers=layers), scenes(counts, width=12)
    fill_reader(state, module)
    found = module(batch)
    for number in range(len(counts)):
        mine = batch.batch == number
        expected = slowly(state, batch.x[mine], batch.boxes[mine], layers)
        torch.testing.assert_close(found[number], expected, rtol=1e-4, atol=1e-5)


BAD = {
    "too many layers": ({"layers": 2}, {}, r"does not fit a reader of 2 layers\. Missing .*cross_attn\.1"),
    "too few layers": (
        {},
        {"resampler_3d.self_attn.1.layer_norm.bias": torch.ones(12)},
        "Not in this reader: re",
    ),
    "an input layer": ({"width_in": 7}, {}, r"no tensors enter\.bias, enter\.weight"),
    "another width": (
        {"width_out": 8},
        {},
        r"llama_proj_3d\.0\.weight is \(9, 12\) in the file, but \(8, 12\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_other_published_sizes_are_told(case: str) -> None:
    changes, more, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        fill_reader(published(1) | more, reader(**{"width_in": 12, **changes}))


def test_a_file_without_point_clouds_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"Missing in the file: llama_proj_3d\.0\.bias.*trained with point cl"
    ):
        fill_reader({"llama_proj.weight": torch.ones(3)}, reader(width_in=12))
