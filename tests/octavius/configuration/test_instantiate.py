"""Sections become objects: classes by their path, other types by value, and only trusted ones if it is said so."""

from typing import Any

import pytest
from jsonargparse import ArgumentError

from octavius.configuration.instantiate import instantiate
from octavius.encoders.base import Encoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.prompt import Template
from octavius.lora_moe import LoRAMoEConfig

FEATURES = {
    "class_path": "octavius.encoders.precomputed.PrecomputedFeatures",
    "init_args": {"num_tokens": 3, "width": 5},
}


def test_a_class_is_named_by_its_path() -> None:
    encoder = instantiate("encoder", Encoder, FEATURES)
    assert isinstance(encoder, PrecomputedFeatures)
    assert (encoder.num_tokens, encoder.width) == (3, 5)


def test_other_types_are_values() -> None:
    template = instantiate("template", Template | None, {"human": "User:", "tags": {"image": ["{", "}"]}})
    assert template == Template(human="User:", tags={"image": ("{", "}")})
    assert instantiate("template", Template | None, None) is None
    lora = instantiate("lora", LoRAMoEConfig | None, {"experts": 2, "gate": "dense"})
    assert lora == LoRAMoEConfig(experts=2, gate="dense")


@pytest.mark.parametrize(
    ("kind", "section"),
    [(Encoder, {"class_path": "torch.nn.Linear"}), (Template | None, {"humna": "User:"})],
)
def test_what_is_not_of_the_type_is_refused(kind: Any, section: Any) -> None:
    with pytest.raises(ArgumentError):
        instantiate("part", kind, section)


def test_an_untrusted_section_names_listed_classes_only() -> None:
    assert isinstance(instantiate("encoder", Encoder, FEATURES, "last.yaml"), PrecomputedFeatures)
    with pytest.raises((ValueError, ArgumentError), match=r"last\.yaml"):
        instantiate("encoder", Encoder, {"class_path": "os.path.join"}, "last.yaml")
