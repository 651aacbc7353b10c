"""Mentions of a class as the published evaluation of images finds them."""

import pytest

from octavius.instruction.sample import ClassName
from octavius.metrics import AnyMention
from octavius.metrics.published.mentions import mentions
from octavius.metrics.reporting import averaged

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HAIR = ("black", "blond", "brown", "gray")


@pytest.mark.parametrize(
    ("text", "name", "names", "right"),
    [
        ("airplane", "airplane", CIFAR, True),
        ("The image shows a small plane.", "airplane", CIFAR, True),
        ("Aeroplanes!", "airplane", CIFAR, True),
        ("It is an airplanet", "airplane", CIFAR, False),
        ("Cars, trucks and buses", "automobile", CIFAR, True),
        ("a toad", "frog", CIFAR, True),
        ("cat, or dog, or frog", "dog", CIFAR, True),  # any mention
        ("True cat.", "cat", CIFAR, True),  # two words count only as the whole answer
        ("a domestic dog's cousin", "wolf", ("wolf", "dog"), False),
        ("Her hair is grey", "gray", HAIR, True),
        ("blonde", "blond", HAIR, True),
        ("yes", "yes", ("yes", "no"), True),
        ("She is not smiling", "no", ("yes", "no"), True),
        ("No.", "yes", ("yes", "no"), False),
        ("She isn't smiling", "yes", ("yes", "no"), True),  # n't is no `not` to it
        ("", "yes", ("yes", "no"), True),
        ("", "cat", CIFAR, False),
    ],
)
def test_mentions(text: str, name: str, names: tuple[str, ...], right: bool) -> None:
    assert mentions(text, ClassName(name, names)) is right


def test_the_share() -> None:
    metric = AnyMention()
    metric.update(
        ["a cat", None, "dogs and cats"], [ClassName(name, CIFAR) for name in ("cat", "cat", "dog")]
    )
    assert metric.compute()["acc1_any_mention"] == pytest.approx(2 / 3)


def test_the_share_enters_the_relative_average() -> None:
    assert averaged(AnyMention()) == ("acc1_any_mention",)
