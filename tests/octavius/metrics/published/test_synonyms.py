"""Names of the same class."""

import pytest

from octavius.metrics.published.synonyms import same_thing


@pytest.mark.parametrize(
    ("said", "label", "same"),
    [
        ("aeroplane", "aeroplane", True),
        ("large airplane", "aeroplane", True),
        ("couch", "sofa", True),
        ("puppies", "dog", False),  # the map holds the singular alone
        ("puppy", "dog", True),
        ("sailboat", "boat", True),
        ("two women", "person", True),
        ("motorcycles", "motorbike", True),
        ("dining table", "diningtable", False),  # no word of WordNet, hence never right
        ("diningtable", "diningtable", False),
        ("buses", "bus", True),
        ("Bus", "bus", False),
        ("zebra", "zebra", True),
    ],
)
def test_classes_of_boxes(said: str, label: str, same: bool) -> None:
    assert same_thing(said, label) is same
