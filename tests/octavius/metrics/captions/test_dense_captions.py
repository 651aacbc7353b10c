"""Scores of dense captions equal an exhaustive search over all matchings."""

import math
import random
from itertools import permutations

import pytest

from octavius.instruction.sample import DescribedObject, DescribedObjects, References
from octavius.metrics import Bleu, Cider, DenseCaptions, RougeL

Box = tuple[float, float, float, float, float, float]
Objects = list[DescribedObject]
WORDS = "a the red blue old chair table lamp near by wall door".split()  # noqa: SIM905


def score(pairs: list[tuple[Objects | None, Objects]]) -> dict[str, float]:
    metric = DenseCaptions()
    metric.update([found for found, _ in pairs], [DescribedObjects(tuple(true)) for _, true in pairs])
    return metric.compute()


def captions(texts: list[str | None], true: Objects) -> dict[str, float]:
    """What the plain caption metrics say of one text, or None, for each object."""
    found = {}
    for metric in (Cider(), Bleu(), RougeL()):
        metric.update(texts, [References(item.texts) for item in true])
        found |= metric.compute()
    return found


def shared(first: Box, second: Box) -> tuple[float, float, float]:
    """The volumes of the intersection, the union and the box about two boxes."""
    ends = [[(box[i] - box[i + 3] / 2, box[i] + box[i + 3] / 2) for i in range(3)] for box in (first, second)]
    inner = math.prod(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in zip(*ends, strict=True))
    outer = math.prod(max(a[1], b[1]) - min(a[0], b[0]) for a, b in zip(*ends, strict=True))
    return inner, math.prod(first[3:]) + math.prod(second[3:]) - inner, outer


def iou(first: DescribedObject, second: DescribedObject) -> float:
    inner, union, _ = shared(first.box, second.box)
    return inner / union


def giou(first: DescribedObject, second: DescribedObject) -> float:
    inner, union, outer = shared(first.box, second.box)
    return inner / union - (outer - union) / outer


def spoken(found: Objects, true: Objects, threshold: float) -> list[str | None]:
    """The text that speaks for each object: that of the best of the boxes that overlap no object more."""
    texts: list[str | None] = []
    for index, item in enumerate(true):
        own = [box for box in found if all(iou(box, item) >= iou(box, other) for other in true)]
        best = max(own, key=lambda box, item=item: iou(box, item), default=None)
        texts.append(best.texts[0] if best and iou(best, true[index]) > threshold else None)
    return texts


def paired(found: Objects, true: Objects, threshold: float) -> list[str | None]:
    """The text of the box paired with each object, in the best of all ways to pair."""
    slots = [*range(len(found)), *[None] * max(0, len(true) - len(found))]
    ways = [
        way
        for way in permutations(slots, len(true))
        if sum(p is not None for p in way) == min(len(found), len(true))
    ]

    def worth(way: tuple[int | None, ...]) -> float:
        return sum(giou(found[p], item) for p, item in zip(way, true, strict=True) if p is not None)

    way = max(ways, key=worth)
    near = [p is not None and iou(found[p], item) > threshold for p, item in zip(way, true, strict=True)]
    return [found[p].texts[0] if p is not None and ok else None for p, ok in zip(way, near, strict=True)]


def random_scene(rng: random.Random) -> tuple[Objects, Objects]:
    """Up to four objects, and boxes most of which lie near one of them."""

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))

    def near(box: Box) -> Box:
        x, y, z, *size = (value + rng.uniform(-0.2, 0.2) for value in box)
        return (x, y, z, size[0], size[1], size[2])

    boxes: list[Box] = []
    for _ in range(rng.randint(1, 4)):
        x, y, z, dx, dy, dz = (rng.uniform(0, 1.5) for _ in range(6))
        boxes.append((x, y, z, dx + 0.5, dy + 0.5, dz + 0.5))
    true = [DescribedObject(box, tuple(text() for _ in range(rng.randint(1, 3)))) for box in boxes]
    found = [DescribedObject(near(rng.choice(boxes)), (text(),)) for _ in range(rng.randint(0, 5))]
    return found, true


def test_equals_the_caption_metrics_after_a_search_through_all_ways_to_pair() -> None:
    rng = random.Random(0)
    counted = {"25": 0, "50": 0}
    for _ in range(8):
        pairs = [random_scene(rng) for _ in range(3)]
        scores = score(pairs)  # type: ignore[arg-type]
        true = [item for _, objects in pairs for item in objects]
        predicted = sum(len(found) for found, _ in pairs)
        for k, threshold in (("25", 0.25), ("50", 0.5)):
            texts = [text for found, objects in pairs for text in spoken(found, objects, threshold)]
            for key, value in captions(texts, true).items():
                assert scores[f"{key}_at{k}"] == pytest.approx(value, abs=1e-6)
            texts = [text for found, objects in pairs for text in paired(found, objects, threshold)]
            right = sum(text is not None for text in texts)
            assert scores[f"recall{k}"] == pytest.approx(right / len(true))
            assert scores[f"precision{k}"] == pytest.approx(right / predicted if predicted else 0)
            whole = captions(texts, true)
            totals = {key: whole[key] * len(true) for key in ("cider", "rouge_l")}
            totals["bleu4"] = sum(
                captions([text], [item])["bleu4"] for text, item in zip(texts, true, strict=True)
            )
            for key, total in totals.items():
                precision, recall = total / max(1, predicted), total / len(true)
                f1 = 2 * precision * recall / (precision + recall) if total else 0.0
                assert scores[f"{key}_f1_at{k}"] == pytest.approx(f1, abs=1e-6)
            counted[k] += right
    assert counted["25"] > counted["50"] > 0  # both thresholds were put to work


def chair(x: float, *texts: str) -> DescribedObject:
    return DescribedObject((x, 0, 0, 2, 2, 2), texts)


def test_perfect_objects_score_as_their_captions_alone() -> None:
    scenes = [
        [chair(0, "a red chair by the wall"), chair(5, "the old lamp near a door")],
        [chair(0, "a blue table")],
    ]
    scores = score([(objects[::-1], objects) for objects in scenes])  # type: ignore[misc]
    true = [item for objects in scenes for item in objects]
    alone = captions([item.texts[0] for item in true], true)
    for k in ("25", "50"):
        assert {key: scores[f"{key}_at{k}"] for key in alone} == pytest.approx(alone)
        assert [scores[f"{key}_f1_at{k}"] for key in ("cider", "rouge_l")] == pytest.approx(
            [alone["cider"], 1]
        )
        assert [scores[f"recall{k}"], scores[f"precision{k}"]] == [1, 1]


def test_a_right_caption_counts_only_where_its_box_is_right() -> None:
    true = [chair(0, "a red chair"), chair(9, "an old lamp")]
    far = [chair(1, "a red chair"), chair(9, "an old lamp")]  # an IoU of 1/3, and of 1
    scores = score([(far, true)])
    assert [scores["rouge_l_at25"], scores["rouge_l_at50"]] == pytest.approx([1, 0.5])
    assert [scores["recall25"], scores["recall50"]] == [1, 0.5]
    assert scores["cider_at50"] == pytest.approx(scores["cider_at25"] / 2)


def test_more_boxes_cost_precision_but_not_what_is_said_of_each_object() -> None:
    true = [chair(0, "a red chair"), chair(9, "an old lamp")]
    extra = [*true, chair(20, "a red chair"), chair(0.5, "a blue table")]
    scores = score([(extra, true)])
    assert [scores["rouge_l_at50"], scores["recall50"], scores["precision50"]] == [1, 1, 0.5]
    assert scores["rouge_l_f1_at50"] == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_missing_objects_score_zero_and_without_true_ones_nothing_is_measured() -> None:
    assert set(score([(None, [chair(0, "a red chair")]), ([], [chair(0, "a lamp")])]).values()) == {0.0}
    assert math.isnan(score([([], [])])["cider_at25"])


def test_ill_formed_objects_are_refused_in_words() -> None:
    good = DescribedObjects((chair(0, "a red chair"),))
    with pytest.raises(ValueError, match="gold 1 has an object without a text"):
        DenseCaptions().update([None, None], [good, DescribedObjects((chair(0),))])
    with pytest.raises(ValueError, match="a predicted object has one text, but this one has 2"):
        DenseCaptions().update([[chair(0, "a", "b")]], [good])
    with pytest.raises(ValueError, match="a box of the predicted objects has a number that is not finite"):
        DenseCaptions().update([[chair(math.nan, "a")]], [good])
