"""A synonym means its class where the list has one such class; the published protocol looks at the bare text."""

import pytest

from octavius.evaluation.scores import computed
from octavius.instruction.sample import ClassName, Sample
from octavius.tasks import Classification3D
from octavius.tasks.classification3d import SYNONYMS

NAMES = ("sofa", "trash can", "TV", "table", "refrigerator", "tv stand")


def parse(text: str, names: tuple[str, ...] = NAMES, protocol: str = "standard") -> str | None:
    gold = ClassName(names[0], names)
    return Classification3D().parse(
        text, Sample("s", "classification3d", "b", {}, "", gold, protocol=protocol)
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a couch", "sofa"),
        ("Sofa (a couch)", "sofa"),
        ("garbage  bin", "trash can"),
        ("the television", "TV"),
        ("a television stand", "tv stand"),
        ("Fridge.", "refrigerator"),
        ("a couch or a table", None),
        ("bedside table", "table"),
        ("cupboard", None),
    ],
)
def test_synonyms(text: str, found: str | None) -> None:
    assert parse(text) == found


def test_a_word_that_is_itself_a_class_means_only_that_one() -> None:
    assert parse("couch", ("sofa", "couch")) == "couch"
    assert parse("sofa", ("sofa", "couch")) == "sofa"


def test_a_word_that_could_mean_two_classes_means_none() -> None:
    assert parse("aeroplane", ("airplane", "plane")) is None
    assert parse("aeroplane", ("airplane", "car")) == "airplane"


def test_no_word_stands_in_two_groups_of_synonyms() -> None:
    words = [word for group in SYNONYMS for word in group]
    assert len(set(words)) == len(words)
    assert all(word == " ".join(word.split()).casefold() for word in words)


def test_the_published_protocol_takes_the_text_as_it_is() -> None:
    assert parse(" a sofa,\n or a table", protocol="published") == "a sofa, or a table"
    assert parse(" \n", protocol="published") is None


def test_the_protocols_differ_on_a_list_of_all_classes_and_on_a_synonym() -> None:
    scores = {}
    for protocol in Classification3D().protocols:
        said = ("sofa, trash can, table", "a couch", "sofa", "a sofabed")
        values = [parse(text, protocol=protocol) for text in said]
        scores[protocol] = computed(
            Classification3D().metrics(protocol), values, [ClassName("sofa", NAMES)] * 4
        )
    assert scores == {"standard": {"acc1": 0.5}, "published": {"acc1_name_in_text": 0.75}}
