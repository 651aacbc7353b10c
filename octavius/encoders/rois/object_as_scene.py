"""Features and boxes of a scene's objects come in, a few vectors of the language model's width go out.

The paper's Object-As-Scene, step 3 (Section 3.2.2, equations 6 and 7): learned queries read the objects of a
scene, each of them its feature plus a code of its box, and a linear layer takes what they read to the language
model. Layers, sizes and their start are those of the published code, which adds a LayerNorm at the end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch
from torch_geometric.utils import to_dense_batch

from octavius.boxes3d import edges
from octavius.limits import NOT_NEGATIVE, POSITIVE, PROBABILITY, SIZE

QUERY_STD = 0.3
"""Size of the queries at the start. Where they begin at the published 1, what they read of the objects is drowned
in what they are: in the miniature, classes of single objects stayed at chance for 33,000 samples."""


@dataclass(frozen=True)
class ReaderSizes:
    """The sizes of the trained part; those of the published model by default.

    Attributes:
        width: of the queries and of the attention between them.
        queries: how many vectors a scene gives the language model.
        heads: of each attention.
        layers: how many pairs of cross-attention and self-attention. The paper's "two stacked transformer
            layers" are one pair in the published code.
        dropout: on what an attention gives.
        hidden: width of the hidden layer of the box code.
        scale: the size of the vectors at the start, the gain of the last LayerNorm. The published 1 is some
            fifty times the size of the word embeddings of many language models.
        order: how much more query i looks at the i-th object along x than at others at the start, in logits; a
            learned bias of each head. 0 is the published model, whose queries have no order to begin with.
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
        """Refuses numbers that mean nothing."""
        SIZE.check(
            width=self.width, queries=self.queries, heads=self.heads, layers=self.layers, hidden=self.hidden
        )
        PROBABILITY.check(dropout=self.dropout)
        POSITIVE.check(scale=self.scale)
        NOT_NEGATIVE.check(order=self.order)


class ObjectAsScene(nn.Module):
    """Any number of objects of each of M scenes in, `queries` vectors for each scene out.

    A scene without an object is read as one learned object, so that no attention looks at nothing.
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
        """Makes the layers.

        Args:
            width_in: of the objects' features. Where it is not `width` a linear layer comes first, which the
                published model needs not.
            width_out: of the language model.
            width: as in `ReaderSizes`, like all that follow.
            queries: vectors for each scene.
            heads: of each attention.
            layers: pairs of cross-attention and self-attention.
            dropout: on what an attention gives.
            hidden: hidden width of the box code.
            normalise: bring each feature vector to mean 0 and variance 1 first.
            scale: size of the vectors at the start.
            order: as in `ReaderSizes`; 0 makes no such bias.

        Raises:
            ValueError: the width cannot be shared out to the heads, there is no query, head or layer, or the
                bias is negative.
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
        with torch.autocast(
            rois.boxes.device.type, enabled=False
        ):  # half precision knows 3 m to a centimetre
            placed = self.place(edges(rois.boxes.to(dtype)))
        objects = self.enter(self.norm(rois.x.to(dtype))) + placed
        objects, real = to_dense_batch(objects, rois.batch, batch_size=scenes)
        # Every scene holds the learned object, hidden where there are others: it has a gradient in each batch.
        objects = torch.cat([self.nothing.expand(scenes, 1, -1), objects], dim=1)
        real = torch.cat([~real.any(1, keepdim=True), real], dim=1)
        bias = torch.zeros_like(real, dtype=dtype).masked_fill(~real, -torch.inf)[:, None, None]
        if self.order is not None:
            places = shared_places(rois.boxes, rois.batch, len(self.queries))
            places, _ = to_dense_batch(places, rois.batch, batch_size=scenes)
            preferred = self.order[:, :, places].permute(2, 0, 1, 3)  # (M, heads, queries, O)
            bias = bias + F.pad(preferred, (1, 0))
        vectors = self.queries.expand(scenes, -1, -1)
        for layer in self.layers:
            vectors = layer(vectors, objects, bias)
        projected: Tensor = self.leave(vectors)
        return projected


class Layer(nn.Module):
    """Queries look at the objects, then at each other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.cross = Attention(width, heads, dropout)
        self.own = Attention(width, heads, dropout)

    def forward(self, vectors: Tensor, objects: Tensor, bias: Tensor) -> Tensor:
        """New vectors (M, Q, D) from objects (M, O, D), with a bias on their logits as in `Attention`."""
        vectors = self.cross(vectors, objects, bias)
        seen: Tensor = self.own(vectors, vectors)
        return seen


class Attention(nn.Module):
    """Multi-head attention, added to the queries and then normalised; no feed-forward network follows."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, asking: Tensor, asked: Tensor, bias: Tensor | None = None) -> Tensor:
        """New vectors (M, Q, D) of the queries.

        Args:
            asking: queries (M, Q, D).
            asked: keys and values alike (M, K, D).
            bias: added to the logits (M, heads or 1, Q or 1, K); minus infinity for what does not exist, which
                is never all of a row.
        """
        query, key, value = (
            linear(vectors).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear, vectors in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        mask = None if bias is None else bias.to(query.dtype)
        found = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
        normed: Tensor = self.norm(asking + self.dropout(self.out(found)))
        return normed


def shared_places(boxes: Tensor, batch: Tensor, places: int) -> Tensor:
    """The place of each object in its scene's order along x, 0 and up; neighbours share one where they are too many.

    Args:
        boxes: centre and size (O, 6).
        batch: the scene of each, ascending (O,).
        places: how many there are.

    Returns:
        (O,) below `places`.
    """
    counts = batch.bincount()
    along = boxes[:, 0].argsort(stable=True)
    along = along[batch[along].argsort(stable=True)]
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(along)
    rank[along] = torch.arange(len(along), device=along.device) - first[batch[along]]
    return torch.where(counts[batch] > places, rank * places // counts[batch], rank)


def import_published(state: Mapping[str, Tensor], module: ObjectAsScene) -> None:
    """Fills a reader with the point-cloud part of a released checkpoint of Octavius; other tensors are left out.

    The published model has no object for empty scenes: `nothing` stays as it is.

    Args:
        state: the tensors of the released file by name, as `torch.load` gives them.
        module: a reader of the published sizes (`ReaderSizes`), 768 wide features and the width of its language
            model (5120).

    Raises:
        ValueError: tensors are missing, are too many, or have other shapes than this reader's.
    """
    own = module.state_dict()
    names = {published: name for published, name in _published_names(len(module.layers))}
    if extra := sorted(own.keys() - set(names.values()) - {"nothing"}):
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
        if state[published].shape != own[name].shape:
            raise ValueError(
                f"{published} is {tuple(state[published].shape)} in the file, but {tuple(own[name].shape)} in "
                "this reader; give it the sizes of the file"
            )
    module.load_state_dict({name: state[published] for published, name in names.items()}, strict=False)


def _published_names(layers: int) -> Iterator[tuple[str, str]]:
    """The published name of each tensor, and ours."""
    yield "resampler_3d.query_embed.weight", "queries"
    ends = ("weight", "bias")
    linear = {"q": "query", "k": "key", "v": "value", "o": "out"}
    for end in ends:
        yield from ((f"pos_3d_proj.{place}.{end}", f"place.{place}.{end}") for place in (0, 2))
        yield from ((f"llama_proj_3d.{place}.{end}", f"leave.{place}.{end}") for place in (0, 1))
        for layer in range(layers):
            for kind, name in (("cross_attn", "cross"), ("self_attn", "own")):
                theirs, ours = f"resampler_3d.{kind}.{layer}", f"layers.{layer}.{name}"
                yield f"{theirs}.layer_norm.{end}", f"{ours}.norm.{end}"
                for letter, part in linear.items():
                    yield f"{theirs}.attention.fc_{letter}.{end}", f"{ours}.{part}.{end}"
