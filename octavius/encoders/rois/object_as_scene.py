"""Object-As-Scene reader: learned queries that attend to the objects of a scene.

Step 3 of the paper's Object-As-Scene (section 3.2.2, equations 6 and 7): an object is its feature plus an
embedding of its box; queries attend to the objects of a scene, and a linear layer maps them to the language
model. Layers, sizes and initialization are those of the published code, which adds a LayerNorm at the end.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch
from torch_geometric.utils import to_dense_batch

from octavius.boxes3d import edges
from octavius.limits import NON_NEGATIVE_NUMBER, POSITIVE_NUMBER, PROBABILITY_BELOW_1, SIZE_RANGE

QUERY_STD = 0.3
"""Standard deviation of the initial queries.

With the published 1, what the queries read from the objects is drowned out by the queries themselves: in the
miniature, classes of single objects stayed at chance for 33,000 samples.
"""


@dataclass(frozen=True)
class ReaderSizes:
    """Sizes of the trained reader; the defaults are those of the published model.

    Attributes:
        width: width of the queries and of the attention.
        queries: number of vectors that a scene has in the language model.
        heads: heads of each attention.
        layers: pairs of cross-attention and self-attention. The paper's "two stacked transformer layers" are
            one pair in the published code.
        dropout: dropout probability after each attention.
        hidden: hidden width of the box embedding.
        scale: initial size of the output vectors, the gain of the last LayerNorm. The published 1 is about
            fifty times the size of the word embeddings of many language models.
        order: initial bias, in logits, of query i towards the i-th object along x; learned per head. 0 is the
            published model, without such a bias.
    """

    width: int = 768
    queries: int = 16
    heads: int = 8
    layers: int = 1
    dropout: float = 0.1
    hidden: int = 256
    scale: float = 1.0
    order: float = 0.0

    def __post_init__(self) -> None:
        """Validates the numbers."""
        SIZE_RANGE.check(
            width=self.width, queries=self.queries, heads=self.heads, layers=self.layers, hidden=self.hidden
        )
        PROBABILITY_BELOW_1.check(dropout=self.dropout)
        POSITIVE_NUMBER.check(scale=self.scale)
        NON_NEGATIVE_NUMBER.check(order=self.order)


class ObjectAsScene(nn.Module):
    """Maps any number of objects in each of M scenes to `queries` vectors per scene.

    A scene without objects is read as one learned object, so that no attention row is empty.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        width: int = 768,
        queries: int = 16,
        heads: int = 8,
        layers: int = 1,
        dropout: float = 0.1,
        hidden: int = 256,
        normalise: bool = False,
        scale: float = 1.0,
        order: float = 0.0,
    ) -> None:
        """Creates the layers.

        Args:
            width_in: width of the objects' features. If it differs from `width`, a linear layer comes first,
                which the published model does not need.
            width_out: hidden size of the language model.
            width: width of the queries and of the attention, as all that follow see `ReaderSizes`.
            queries: vectors per scene.
            heads: heads of each attention.
            layers: pairs of cross-attention and self-attention.
            dropout: dropout probability after each attention.
            hidden: hidden width of the box embedding.
            normalise: normalize each feature vector to mean 0 and variance 1 first.
            scale: initial size of the output vectors.
            order: initial bias towards objects in order along x; 0 has no such bias.

        Raises:
            ValueError: `heads` does not divide `width`, a number is below 1, or `order` is negative.
        """
        super().__init__()
        if min(queries, heads, layers) < 1 or width % heads:
            raise ValueError(
                "the reader of a scene needs a width that its heads divide, and at least one query, head and "
                f"layer; found width {width}, {queries} queries, {heads} heads, {layers} layers"
            )
        if order < 0:
            raise ValueError(f"queries look at objects in order by a bias of at least 0, found order {order}")
        self.width_in = width_in
        self.norm = nn.LayerNorm(width_in, elementwise_affine=False) if normalise else nn.Identity()
        self.enter = nn.Identity() if width_in == width else nn.Linear(width_in, width)
        self.place = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.queries = nn.Parameter(QUERY_STD * torch.randn(queries, width))
        self.nothing = nn.Parameter(torch.zeros(width))
        self.order = nn.Parameter(order * torch.eye(queries).repeat(heads, 1, 1)) if order else None
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        last = nn.LayerNorm(width_out)
        nn.init.constant_(last.weight, scale)
        self.leave = nn.Sequential(nn.Linear(width, width_out), last)

    def forward(self, rois: Batch) -> Tensor:
        """Vectors (M, queries, width_out) of M scenes.

        Args:
            rois: the objects of all scenes, with `x` (O, width_in) and `boxes` (O, 6), centre and size.

        Raises:
            ValueError: the features have another width.
        """
        if rois.x.shape[1] != self.width_in:
            raise ValueError(
                f"expected features of {self.width_in} numbers for each object, found {rois.x.shape[1]}; the "
                "encoder and what it reads must agree on the width"
            )
        dtype, scenes = self.queries.dtype, len(rois.ptr) - 1
        # At 3 m the steps of half precision are 2 mm (fp16) or 16 mm (bf16).
        with torch.autocast(rois.boxes.device.type, enabled=False):
            placed = self.place(edges(rois.boxes.to(dtype)))
        objects = self.enter(self.norm(rois.x.to(dtype))) + placed
        objects, real = to_dense_batch(objects, rois.batch, batch_size=scenes)
        # The learned object is part of every scene, masked if there are others: its parameter gets a gradient
        # in each batch.
        objects = torch.cat([self.nothing.expand(scenes, 1, -1), objects], dim=1)
        real = torch.cat([~real.any(1, keepdim=True), real], dim=1)
        bias = torch.zeros_like(real, dtype=dtype).masked_fill(~real, -torch.inf)[:, None, None]
        if self.order is not None:
            ranks = shared_ranks(rois.boxes, rois.batch, len(self.queries))
            ranks, _ = to_dense_batch(ranks, rois.batch, batch_size=scenes)
            preferred = self.order[:, :, ranks].permute(2, 0, 1, 3)  # (M, heads, queries, O)
            bias = bias + F.pad(preferred, (1, 0))
        vectors = self.queries.expand(scenes, -1, -1)
        for layer in self.layers:
            vectors = layer(vectors, objects, bias)
        projected: Tensor = self.leave(vectors)
        return projected


class Layer(nn.Module):
    """Cross-attention to the objects, then self-attention between the queries."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.cross = Attention(width, heads, dropout)
        self.own = Attention(width, heads, dropout)

    def forward(self, vectors: Tensor, objects: Tensor, bias: Tensor) -> Tensor:
        """New vectors (M, Q, D) from objects (M, O, D), with a bias on the logits as in `Attention`."""
        vectors = self.cross(vectors, objects, bias)
        seen: Tensor = self.own(vectors, vectors)
        return seen


class Attention(nn.Module):
    """Multi-head attention with residual connection and post-norm; no feed-forward network follows."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, queries: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attends from queries to keys.

        Args:
            queries: (M, Q, D) queries.
            context: (M, K, D) vectors that are attended to.
            bias: (M, heads or 1, Q or 1, K) added to the logits; minus infinity masks a key, never a whole
                row.

        Returns:
            (M, Q, D) new vectors of the queries.
        """
        query, key, value = (
            linear(vectors).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear, vectors in ((self.query, queries), (self.key, context), (self.value, context))
        )
        mask = None if bias is None else bias.to(query.dtype)
        found = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
        normed: Tensor = self.norm(queries + self.dropout(self.out(found)))
        return normed


def shared_ranks(boxes: Tensor, batch: Tensor, count: int) -> Tensor:
    """Rank of each object along x within its scene, compressed to `count` values if there are more objects.

    Args:
        boxes: (O, 6) centre and size.
        batch: (O,) scene of each object, ascending.
        count: number of distinct ranks.

    Returns:
        (O,) ranks below `count`; neighbours share one if there are too many objects.
    """
    counts = batch.bincount()
    along = boxes[:, 0].argsort(stable=True)
    along = along[batch[along].argsort(stable=True)]
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(along)
    rank[along] = torch.arange(len(along), device=along.device) - first[batch[along]]
    return torch.where(counts[batch] > count, rank * count // counts[batch], rank)
