"""An oracle for the published code: slow, plain computations, written from facts about it.

Tensors have the names, shapes and orientations of its checkpoints: experts (E, in, R) and (E, R, out), a gate (D, E).
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
LLM = "llama_model.base_model.model."


def gate(w_gating: Tensor, embeddings: Tensor) -> Tensor:
    """Top-2 of a softmax over the mean of all columns, pads as well: (B, E) of embeddings (B, T, D)."""
    batch, columns, _ = embeddings.shape
    rows = []
    for sample in range(batch):
        scores = [embeddings[sample, column] @ w_gating for column in range(columns)]
        probabilities = (sum(scores) / columns).softmax(0)
        (best, next_best), (one, other) = probabilities.topk(2)
        weights = torch.zeros_like(probabilities)
        weights[one] = best / (best + next_best + 1e-9)
        weights[other] = next_best / (best + next_best + 1e-9)
        rows.append(weights)
    return torch.stack(rows)


def moe_layer(x: Tensor, weight: Tensor, lora_a: Tensor, lora_b: Tensor, weights: Tensor) -> Tensor:
    """X W^T plus the sum of experts, all of them computed at full width; alpha / r is never applied."""
    out = torch.einsum("bnd,od->bno", x, weight)
    experts = torch.einsum("bner,ero->bneo", torch.einsum("bnd,edr->bner", x, lora_a), lora_b)
    return out + (experts * weights[:, None, :, None]).sum(2)


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over all B * (S - 1) positions, of which those without a label count 0."""
    each = nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
    )
    assert each.shape == labels[:, 1:].shape
    return each.mean()


def attention(state: dict[str, Tensor], name: str, asking: Tensor, asked: Tensor, heads: int) -> Tensor:
    """One attention of the resampler, added and normalised: (Q, D) from (Q, D) and (K, D)."""

    def linear(letter: str, x: Tensor) -> Tensor:
        part = f"{name}.attention.fc_{letter}"
        return x @ state[f"{part}.weight"].T + state[f"{part}.bias"]

    query, key, value = linear("q", asking), linear("k", asked), linear("v", asked)
    width = query.shape[1] // heads
    found = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / width**0.5
        found.append(scores.softmax(-1) @ value[:, part])
    mixed = asking + linear("o", torch.cat(found, 1))
    return norm(state, f"{name}.layer_norm", mixed)


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A LayerNorm by its formula."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def read_scene(state: dict[str, Tensor], features: Tensor, corners: Tensor, heads: int) -> Tensor:
    """Vectors (Q, D) of a scene, from features (O, W) and boxes (O, 6) as (min, max)."""
    hidden = (corners @ state["pos_3d_proj.0.weight"].T + state["pos_3d_proj.0.bias"]).relu()
    objects = features + hidden @ state["pos_3d_proj.2.weight"].T + state["pos_3d_proj.2.bias"]
    queries = attention(
        state, "resampler_3d.cross_attn.0", state["resampler_3d.query_embed.weight"], objects, heads
    )
    queries = attention(state, "resampler_3d.self_attn.0", queries, queries, heads)
    projected = queries @ state["llama_proj_3d.0.weight"].T + state["llama_proj_3d.0.bias"]
    return norm(state, "llama_proj_3d.1", projected)


def with_routing(base: LlamaForCausalLM, state: dict[str, Tensor], weights: Sequence[Tensor]) -> list[Any]:
    """For each sample a language model of its own, with W + sum over e of g_e (A_e B_e)^T."""
    models = []
    for row in weights:
        model = copy.deepcopy(base)
        model.get_input_embeddings().weight.data = state[f"{LLM}model.embed_tokens.weight"].clone()
        model.get_output_embeddings().weight.data = state[f"{LLM}lm_head.weight"].clone()
        for index, layer in enumerate(model.model.layers):
            for projection in PROJECTIONS:
                name = f"{LLM}model.layers.{index}.self_attn.{projection}.lora_moe_"
                delta = sum(
                    row[expert] * (state[f"{name}A.default"][expert] @ state[f"{name}B.default"][expert]).T
                    for expert in range(len(row))
                )
                getattr(layer.self_attn, projection).weight.data += delta
        models.append(model)
    return models


def fabricate(
    base: LlamaForCausalLM, rows: int, experts: int, rank: int, image: int, cloud: int, queries: int = 16
) -> dict[str, Tensor]:
    """A checkpoint of the published names, shapes and orientations for a small language model.

    Args:
        base: the language model.
        rows: tokens, with those that the published code adds.
        experts: E.
        rank: R.
        image: width of picture features.
        cloud: width of object features; 0 for a model of pictures alone.
        queries: vectors of a scene; 16 in the published one.
    """
    torch.manual_seed(3)
    width = base.config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        f"{LLM}model.embed_tokens.weight": (rows, width),
        f"{LLM}lm_head.weight": (rows, width),
        "gating_network.w_gating": (width, experts),
        "llama_proj.weight": (width, image),
        "llama_proj.bias": (width,),
    }
    for index, layer in enumerate(base.model.layers):
        for projection in PROJECTIONS:
            name = f"{LLM}model.layers.{index}.self_attn.{projection}.lora_moe_"
            linear = getattr(layer.self_attn, projection)
            shapes[f"{name}A.default"] = (experts, linear.in_features, rank)
            shapes[f"{name}B.default"] = (experts, rank, linear.out_features)
    if cloud:
        shapes |= {"resampler_3d.query_embed.weight": (queries, cloud)}
        for kind in ("cross_attn", "self_attn"):
            for letter in "qkvo":
                shapes[f"resampler_3d.{kind}.0.attention.fc_{letter}.weight"] = (cloud, cloud)
                shapes[f"resampler_3d.{kind}.0.attention.fc_{letter}.bias"] = (cloud,)
            shapes |= {f"resampler_3d.{kind}.0.layer_norm.{end}": (cloud,) for end in ("weight", "bias")}
        shapes |= {"pos_3d_proj.0.weight": (8, 6), "pos_3d_proj.0.bias": (8,)}
        shapes |= {"pos_3d_proj.2.weight": (cloud, 8), "pos_3d_proj.2.bias": (cloud,)}
        shapes |= {"llama_proj_3d.0.weight": (width, cloud), "llama_proj_3d.0.bias": (width,)}
        shapes |= {"llama_proj_3d.1.weight": (width,), "llama_proj_3d.1.bias": (width,)}
    return {name: 0.4 * torch.randn(shape) for name, shape in shapes.items()}
