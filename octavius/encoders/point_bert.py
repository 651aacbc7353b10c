"""Point-BERT encoder for point clouds of single objects, as trained by ULIP.

Layers and their names are those of the published code of Point-BERT and ULIP, so that its weights load by
name (`octavius.encoders.point_bert_published`). There are two differences: farthest-point sampling starts at
the point farthest from the mean, so that the result does not depend on the order of the points, and colours
are read if the encoder has channels for them.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from octavius.encoders.point_ops import farthest_points, k_nearest
from octavius.files import read_text
from octavius.folders import check_folder, saving_folder
from octavius.limits import POSITIVE_INT, PROBABILITY_BELOW_1, SIZE_RANGE
from octavius.media.meshes import GREY
from octavius.presets import find_checkpoint

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Files in the folder of a saved encoder."""

PLACE_WIDTH = 128
"""Hidden width of the positional MLP."""


def unit_sphere(points: Tensor) -> Tensor:
    """Moves the mean of each cloud to the origin and scales its farthest point to distance 1; colours are kept.

    Args:
        points: (..., N, 3 or more), beginning with x, y, z.

    Raises:
        ValueError: a cloud has no extent: no point, one, or all at one position.
    """
    if not points.shape[-2]:
        raise ValueError("a cloud without points has no size; leave it out")
    positions = points[..., :3] - points[..., :3].mean(-2, keepdim=True)
    radius = positions.norm(dim=-1).amax(-1)[..., None, None]
    if not bool((radius > 0).all()):
        raise ValueError("all points of a cloud lie at one place, or are not finite; leave it out")
    return torch.cat([positions / radius, points[..., 3:]], dim=-1)


class PointBERT(nn.Module):
    """A transformer over small groups of neighbouring points (Point-BERT; ULIP; Octavius, section 3.2.2).

    The defaults are the published sizes, except for the colours, which Octavius stores and does not read.

    Args:
        channels: 6 for positions and colours, 3 for positions only.
        groups: number G of groups of neighbours per cloud; groups overlap.
        group_size: number M of points per group.
        width: width of the transformer.
        depth: number of transformer blocks.
        heads: attention heads per block.
        drop_path: stochastic depth: probability of dropping the last block in training; increases linearly
            from 0 at the first.
        token_width: output width of the PointNet that encodes a group.
        num_points: number of points per cloud that callers should provide; any number from max(G, M) on is
            accepted.
        projection_width: width of the CLIP space that `project` maps to; null has no projection.

    Attributes:
        width: width of the output, twice the transformer's: class token and maximum over groups.
        num_points: as given.
        projection_width: as given.
        config: the arguments, by name.
    """

    def __init__(
        self,
        channels: int = 6,
        groups: int = 512,
        group_size: int = 32,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        drop_path: float = 0.1,
        token_width: int = 256,
        num_points: int = 2048,
        projection_width: int | None = None,
    ) -> None:
        super().__init__()
        SIZE_RANGE.check(
            channels=channels, groups=groups, group_size=group_size, width=width, depth=depth, heads=heads
        )
        SIZE_RANGE.check(token_width=token_width, projection_width=projection_width)
        POSITIVE_INT.check(num_points=num_points)
        PROBABILITY_BELOW_1.check(drop_path=drop_path)
        _check_sizes(channels, width, heads, num_points, max(groups, group_size))
        self.config: dict[str, Any] = {
            "channels": channels,
            "groups": groups,
            "group_size": group_size,
            "width": width,
            "depth": depth,
            "heads": heads,
            "drop_path": drop_path,
            "token_width": token_width,
            "num_points": num_points,
            "projection_width": projection_width,
        }
        self.channels, self.groups, self.group_size = channels, groups, group_size
        self.num_points, self.width, self.projection_width = num_points, 2 * width, projection_width
        self.encoder = GroupEncoder(channels, token_width)
        self.reduce_dim = nn.Linear(token_width, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.cls_pos = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Sequential(nn.Linear(3, PLACE_WIDTH), nn.GELU(), nn.Linear(PLACE_WIDTH, width))
        self.blocks = Blocks(width, depth, heads, drop_path)
        self.norm = nn.LayerNorm(width)
        self.projection: nn.Parameter | None = None
        if projection_width is not None:
            start = torch.randn(self.width, projection_width) * self.width**-0.5
            self.projection = nn.Parameter(start)

    def forward(self, points: Tensor) -> Tensor:
        """One feature vector per cloud.

        Args:
            points: (B, N, 3 or 6) scaled to the unit sphere, colours in 0..1. An encoder with colours takes
                clouds without any as grey; one without ignores them.

        Returns:
            (B, width): the class token, then the maximum over all groups.

        Raises:
            ValueError: other shapes, fewer points than M or G, or non-finite values.
        """
        groups, centres = self.grouped(points)
        tokens = self.reduce_dim(self.encoder(groups))
        first = self.cls_token.expand(len(points), -1, -1).to(tokens.dtype)
        positions = self.pos_embed(centres)
        positions = torch.cat(
            [self.cls_pos.expand(len(points), -1, -1).to(positions.dtype), positions], dim=1
        )
        hidden = self.norm(self.blocks(torch.cat([first, tokens], dim=1), positions))
        return torch.cat([hidden[:, 0], hidden[:, 1:].amax(1)], dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """Maps features (B, width) to CLIP's space, (B, projection_width), not normalized.

        Raises:
            ValueError: this encoder has no projection.
        """
        if self.projection is None:
            raise ValueError(
                "this Point-BERT has no projection into CLIP's space; build it with projection_width, "
                "or load one that was aligned"
            )
        return features @ self.projection.to(features.dtype)

    def grouped(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Groups (B, G, M, channels) with positions relative to the group's centre, and the centres (B, G, 3)."""
        points = _outermost_first(self._channels_of(points))
        clouds, size, channels = points.shape
        flat = points.reshape(-1, channels)
        positions = flat[:, :3]
        numbers = torch.arange(clouds, device=points.device)
        batch = numbers.repeat_interleave(size)
        centres = positions[farthest_points(positions, self.groups, batch)]
        owners = numbers.repeat_interleave(self.groups)
        _, near = k_nearest(positions, centres, self.group_size, batch, owners)
        groups = flat[near].view(-1, self.group_size, channels)
        moved = torch.cat([groups[..., :3] - centres[:, None], groups[..., 3:]], dim=-1)
        return moved.view(clouds, self.groups, self.group_size, channels), centres.view(clouds, -1, 3)

    def _channels_of(self, points: Tensor) -> Tensor:
        """The clouds with as many channels as the encoder reads."""
        least = max(self.groups, self.group_size)
        if points.ndim != 3 or points.shape[-1] not in (3, 6) or points.shape[1] < least:
            raise ValueError(
                f"expected clouds (B, N, 3 or 6) of at least N = {least} points, found {tuple(points.shape)}; "
                "`octavius.media.crops.resampled` repeats the points of small ones"
            )
        if points.shape[-1] < self.channels:
            return functional.pad(points, (0, 3), value=GREY)
        return points[..., : self.channels]


class GroupEncoder(nn.Module):
    """A small PointNet that encodes groups of points (B, G, M, channels) as vectors (B, G, width)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv1d(channels, width // 2, 1),
            nn.BatchNorm1d(width // 2),
            nn.ReLU(),
            nn.Conv1d(width // 2, width, 1),
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(2 * width, 2 * width, 1),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
            nn.Conv1d(2 * width, width, 1),
        )

    def forward(self, groups: Tensor) -> Tensor:
        """Two shared MLPs, the second with the group's maximum appended, then the maximum over points."""
        enter, norm, relu, leave = self.first_conv
        each = _pointwise(leave, relu(_normed(norm, _pointwise(enter, groups))))
        enter, norm, relu, leave = self.second_conv
        assert isinstance(enter, nn.Conv1d)
        # The published layer multiplies the concatenation (group, point); the group's half is the same for
        # all points of the group, so it is computed once.
        whole, own = enter.weight.squeeze(-1).chunk(2, dim=1)
        both = functional.linear(each, own) + functional.linear(each.amax(2), whole, enter.bias)[:, :, None]
        return _pointwise(leave, relu(_normed(norm, both))).amax(2)


class Blocks(nn.Module):
    """Transformer blocks, each of which gets the positional embedding; their parameters are under `blocks.blocks`."""

    def __init__(self, width: int, depth: int, heads: int, drop_path: float) -> None:
        super().__init__()
        shares = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, share) for share in shares)

    def forward(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, T, D) after all blocks; `positions` (B, T, D) is added before each."""
        for block in self.blocks:
            hidden = block(hidden + positions)
        return hidden


class Block(nn.Module):
    """Pre-norm attention and MLP with residual connections."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, hidden: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        hidden = hidden + self.drop_path(self.attn(self.norm1(hidden)))
        return hidden + self.drop_path(self.mlp(self.norm2(hidden)))


class Attention(nn.Module):
    """Self-attention over all tokens; one matrix without bias for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        batch, length, width = hidden.shape
        split = self.qkv(hidden).view(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(seen.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """Two linear layers with four times the width in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        return self.fc2(functional.gelu(self.fc1(hidden)))


def save_point_bert(model: PointBERT, folder: Path | str) -> None:
    """Writes `config.json` and `model.safetensors` (half precision), with checksums that tie them together."""
    folder = Path(folder)
    halves = {
        name: (part.half() if part.is_floating_point() else part).detach().cpu().contiguous()
        for name, part in model.state_dict().items()
    }
    with saving_folder(folder) as partial:
        (partial / CONFIG).write_text(json.dumps(model.config, indent=2) + "\n", encoding="utf-8")
        save_file(halves, partial / WEIGHTS)


def load_point_bert(name: str) -> PointBERT:
    """Loads a saved encoder, in single precision and evaluation mode.

    Args:
        name: path of the folder, or its name among the shipped checkpoints, such as `miniature/points`.

    Raises:
        ValueError: the folder or a file is missing, or the files do not match.
    """
    folder = find_checkpoint(name)
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise ValueError(
            f"expected {CONFIG} and {WEIGHTS} in {folder}, found no {' and no '.join(missing)}; "
            "they are written by `octavius fit --config pretrain/points.yaml`"
        )
    try:
        model = PointBERT(**json.loads(read_text(folder / CONFIG)))
        check_folder(folder)
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (TypeError, ValueError, RuntimeError, SafetensorError, OSError) as error:
        raise ValueError(
            f"could not read the Point-BERT in {folder}: {' '.join(str(error).split())}"
        ) from None
    return model.eval()


def _check_sizes(channels: int, width: int, heads: int, num_points: int, least: int) -> None:
    if channels not in (3, 6):
        raise ValueError(f"Point-BERT reads 3 channels (places) or 6 (and colours), found {channels}")
    if width % heads:
        raise ValueError(
            f"a width of {width} cannot be shared by {heads} heads; take a multiple of the heads"
        )
    if num_points < least:
        raise ValueError(f"{num_points} points are fewer than the groups or than a group's points, {least}")


def _outermost_first(points: Tensor) -> Tensor:
    """The clouds (B, N, C) with the point farthest from the mean swapped to the front."""
    positions = points[..., :3]
    outermost = (positions - positions.mean(1, keepdim=True)).square().sum(-1).argmax(1)
    clouds = torch.arange(len(points), device=points.device)
    order = torch.arange(points.shape[1], device=points.device).repeat(len(points), 1)
    order[clouds, outermost] = 0
    order[:, 0] = outermost
    return points[clouds[:, None], order]


def _pointwise(layer: nn.Module, rows: Tensor) -> Tensor:
    """A convolution of width 1 over rows (..., C), computed as a matrix product, which is faster."""
    assert isinstance(layer, nn.Conv1d)
    return functional.linear(rows, layer.weight.squeeze(-1), layer.bias)


def _normed(norm: nn.Module, rows: Tensor) -> Tensor:
    """Batch norm over all leading dimensions of rows (..., C)."""
    return norm(rows.flatten(0, -2)).view_as(rows)
