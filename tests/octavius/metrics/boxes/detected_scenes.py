"""Random images of predicted and true boxes, and the values of a metric on them."""

from dataclasses import replace

from hypothesis import strategies as st

from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics import CocoAP, VocAP

EDGES = st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(1, 3)] * 2)


objects = st.builds(
    LabelledBox,
    st.sampled_from(["dog", "cat"]),
    EDGES.map(lambda s: (s[0] / 8, s[1] / 8, (s[0] + s[2]) / 8, (s[1] + s[3]) / 8)),  # exact in binary
    ignored=st.integers(0, 4).map(lambda n: n == 0),
)


Scenes = list[tuple[list[LabelledBox], list[LabelledBox]]]


@st.composite
def scenes(draw: st.DrawFn, ignored: bool = True) -> Scenes:
    """Images of predicted boxes, no two of one score, and of true ones."""
    pairs = draw(
        st.lists(st.tuples(st.lists(objects, max_size=4), st.lists(objects, max_size=4)), max_size=4)
    )
    scores = iter(draw(st.permutations(range(16))))
    found = [[replace(box, score=next(scores) / 16, ignored=False) for box in boxes] for boxes, _ in pairs]
    true = [[box if ignored else replace(box, ignored=False) for box in boxes] for _, boxes in pairs]
    return list(zip(found, true, strict=True))


def values(metric: VocAP | CocoAP, images: Scenes) -> dict[str, float]:
    metric.update([found for found, _ in images], [Boxes(tuple(true)) for _, true in images])
    return metric.compute()
