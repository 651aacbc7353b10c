"""Point-BERT's layers against slow references, and invariances of its features."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from octavius.encoders.point_bert import (
    CONFIG,
    WEIGHTS,
    Attention,
    Block,
    GroupEncoder,
    PointBERT,
    load_point_bert,
    save_point_bert,
    unit_sphere,
)
from octavius.folders import LIST
from octavius.media.meshes import GREY


def small(channels: int = 6, **changes: int) -> PointBERT:
    """A tiny encoder in evaluation mode, with running means that do something."""
    sizes = {"groups": 7, "group_size": 5, "width": 12, "depth": 3, "heads": 3, "token_width": 8}
    model = PointBERT(channels, **(sizes | {"num_points": 24} | changes))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def clouds(count: int = 4, points: int = 24, channels: int = 6) -> Tensor:
    """Clouds on the unit sphere."""
    return unit_sphere(torch.rand(count, points, channels))


@torch.no_grad()
def test_a_batch_gives_what_each_cloud_gives_alone() -> None:
    model, points = small(), clouds()
    together = model(points)
    assert together.shape == (4, model.width) == (4, 24)
    alone = torch.cat([model(cloud[None]) for cloud in points])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(random: object) -> None:
    model, points = small(), clouds(2)
    order = list(range(24))
    random.shuffle(order)  # type: ignore[attr-defined]
    torch.testing.assert_close(model(points[:, order]), model(points), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_places_and_colours_matter_and_colours_only_to_an_encoder_that_reads_them() -> None:
    points = clouds()
    repainted = torch.cat([points[..., :3], 1 - points[..., 3:]], dim=-1)
    mirrored = torch.cat([points[..., :3] * torch.tensor([-1, 1, 1]), points[..., 3:]], dim=-1)
    six, three = small(), small(3)
    assert (six(points) - six(repainted)).abs().amax(1).min() > 1e-3
    assert (six(points) - six(mirrored)).abs().amax(1).min() > 1e-3
    assert torch.equal(three(points), three(repainted))
    assert torch.equal(three(points), three(points[..., :3]))
    grey = torch.cat([points[..., :3], torch.full((4, 24, 3), GREY)], dim=-1)
    assert torch.equal(six(points[..., :3]), six(grey))


@torch.no_grad()
def test_groups_are_the_nearest_points_around_far_apart_centres() -> None:
    model, points = small(), clouds(2)
    groups, centres = model.grouped(points)
    for cloud, found, middles in zip(points, groups, centres, strict=True):
        places = cloud[:, :3]
        chosen = [int((places - places.mean(0)).norm(dim=1).argmax())]
        while len(chosen) < model.groups:
            gaps = torch.stack([(places - places[other]).norm(dim=1) for other in chosen]).amin(0)
            chosen.append(int(gaps.argmax()))
        assert torch.equal(middles, places[chosen])
        for group, middle in zip(found, middles, strict=True):
            near = (places - middle).norm(dim=1).argsort()[: model.group_size]
            expected = torch.cat([places[near] - middle, cloud[near, 3:]], dim=1)
            torch.testing.assert_close(group, expected)


@torch.no_grad()
def test_a_group_is_encoded_as_the_published_layers_do() -> None:
    encoder = GroupEncoder(6, 8).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    groups = torch.randn(2, 7, 5, 6)
    columns = groups.view(14, 5, 6).transpose(1, 2)  # as convolutions take them
    each = encoder.first_conv(columns)
    whole = each.amax(2, keepdim=True).expand(-1, -1, 5)
    expected = encoder.second_conv(torch.cat([whole, each], dim=1)).amax(2).view(2, 7, 8)
    torch.testing.assert_close(encoder(groups), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_blocks_equal_those_of_timm() -> None:
    timm = pytest.importorskip("timm.models.vision_transformer")
    reference = timm.Block(12, 3, qkv_bias=False, norm_layer=nn.LayerNorm).eval()
    block = Block(12, 3, 0.1).eval()
    block.load_state_dict(reference.state_dict())
    hidden = torch.randn(2, 6, 12)
    torch.testing.assert_close(block(hidden), reference(hidden), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_equals_torchs() -> None:
    attention = Attention(12, 3)
    reference = nn.MultiheadAttention(12, 3, batch_first=True)
    reference.in_proj_weight.copy_(attention.qkv.weight)
    reference.in_proj_bias.zero_()
    reference.out_proj.load_state_dict(attention.proj.state_dict())
    hidden = torch.randn(2, 6, 12)
    expected, _ = reference(hidden, hidden, hidden)
    torch.testing.assert_close(attention(hidden), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_places_are_added_before_every_block_and_the_output_is_class_token_and_maximum() -> None:
    model, points = small(), clouds()
    groups, centres = model.grouped(points)
    tokens = torch.cat([model.cls_token.expand(4, 1, 12), model.reduce_dim(model.encoder(groups))], dim=1)
    places = torch.cat([model.cls_pos.expand(4, 1, 12), model.pos_embed(centres)], dim=1)
    for block in model.blocks.blocks:
        told = tokens + places
        told = told + block.attn(block.norm1(told))
        hidden = block.mlp.fc2(functional.gelu(block.mlp.fc1(block.norm2(told))))
        tokens = told + hidden
    tokens = model.norm(tokens)
    expected = torch.cat([tokens[:, 0], torch.stack([row.amax(0) for row in tokens[:, 1:]])], dim=1)
    torch.testing.assert_close(model(points), expected, atol=1e-5, rtol=1e-5)


def test_it_has_the_published_names_and_sizes() -> None:
    with torch.device("meta"):
        three, six, deep = PointBERT(3), PointBERT(), PointBERT(6, depth=18)
    state = three.state_dict()
    assert len(state) == 160
    counts = [sum(part.numel() for part in model.parameters()) for model in (three, six, deep)]
    assert counts == pytest.approx([21.86e6, 21.86e6, 32.5e6], rel=1e-3)
    assert counts[1] - counts[0] == 384
    assert state["blocks.blocks.11.attn.qkv.weight"].shape == (1152, 384)
    assert "blocks.blocks.0.attn.qkv.bias" not in state
    shares = [block.drop_path.p for block in six.blocks.blocks]
    assert shares == pytest.approx([0.1 * index / 11 for index in range(12)])


def test_every_parameter_learns_and_blocks_are_left_out_in_training_alone() -> None:
    model = small(projection_width=5, drop_path=0.9).train()  # type: ignore[arg-type]
    points = clouds(16)
    assert not torch.equal(model(points), model(points))
    model.project(model(points)).square().sum().backward()
    still = [name for name, part in model.named_parameters() if part.grad is None]
    assert still == []
    model.eval()
    assert torch.equal(model(points), model(points))


def test_the_projection_is_a_product() -> None:
    model = small(projection_width=5)
    assert (model.width, model.projection_width) == (24, 5)
    features = torch.randn(2, 24)
    assert model.projection is not None
    torch.testing.assert_close(model.project(features), features @ model.projection)
    with pytest.raises(ValueError, match="no projection"):
        small().project(features)


@given(st.integers(2, 9), st.floats(0.01, 100), st.floats(-50, 50))
def test_the_unit_sphere_holds_every_cloud(count: int, scale: float, shift: float) -> None:
    points = torch.rand(3, count, 6, dtype=torch.float64) * torch.tensor([scale] * 3 + [1.0] * 3)
    points[..., 0] += shift
    found = unit_sphere(points)
    torch.testing.assert_close(
        found[..., :3].mean(1), torch.zeros(3, 3, dtype=torch.float64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(found[..., :3].norm(dim=-1).amax(1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(found[..., 3:], points[..., 3:])
    torch.testing.assert_close(unit_sphere(found), found)


@pytest.mark.parametrize("points", [torch.zeros(2, 0, 6), torch.ones(2, 1, 6), torch.ones(2, 9, 3)])
def test_a_cloud_without_extent_has_no_unit_sphere(points: Tensor) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        unit_sphere(points)


@pytest.mark.parametrize("shape", [(2, 6, 6), (24, 6), (2, 24, 4), (2, 0, 3)])
def test_other_shapes_are_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"at least N = 7 points, found \("):
        small()(torch.zeros(shape))


def test_numbers_that_are_not_finite_are_told() -> None:
    points = clouds()
    points[1, 3, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        small()(points)


@torch.no_grad()
def test_many_points_at_one_place_are_no_error() -> None:
    points = clouds(1)
    points[:, 4:] = points[:, :1]  # fewer places than groups
    assert small()(points).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"heads": 5}, "5 heads"), ({"num_points": 6}, "6 points"), ({"channels": 4}, "found 4")],
)
def test_sizes_that_cannot_be_are_told(changes: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**changes)


@torch.no_grad()
def test_a_saved_encoder_says_the_same_again(tmp_path: Path) -> None:
    model = small(projection_width=5)
    save_point_bert(model, tmp_path / "saved")
    assert {part.dtype for part in load_file(tmp_path / "saved" / WEIGHTS).values()} == {
        torch.float16,
        torch.int64,
    }
    again = load_point_bert(str(tmp_path / "saved"))
    assert not again.training
    assert {part.dtype for part in again.parameters()} == {torch.float32}
    points = clouds()
    torch.testing.assert_close(again(points), model(points), atol=2e-2, rtol=2e-2)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [CONFIG, WEIGHTS, LIST]


def test_a_broken_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found no config\.json and no model\.safetensors"):
        load_point_bert(str(tmp_path))
    save_point_bert(small(), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    for change in ({"depth": 4}, {"layers": 3}):
        (tmp_path / CONFIG).write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match="could not read the Point-BERT"):
            load_point_bert(str(tmp_path))
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="could not read the Point-BERT"):
        load_point_bert(str(tmp_path))
    (tmp_path / CONFIG).write_text(json.dumps(config))
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:500])
    with pytest.raises(ValueError, match="could not read the Point-BERT"):
        load_point_bert(str(tmp_path))
