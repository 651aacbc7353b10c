"""Settings of gates that earlier versions saved."""

from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.earlier import MOVED, with_gate_options
from octavius.lora_moe.gates.factory import class_path
from tests.octavius.settings import EARLIER_LORA


def test_options_of_an_earlier_version_keep_their_values() -> None:
    said = {
        **EARLIER_LORA,
        "gate": "source",
        "top_k": 1,
        "gate_inputs": ["media"],
        "per_layer": True,
        "temperature": 0.5,
        "jitter": 0.25,
    }
    found = with_gate_options(said)
    assert found["gate"] == {
        "class_path": class_path(GATES["source"]),
        "init_args": {
            "top_k": 1,
            "inputs": ["media"],
            "per_layer": True,
            "universal": False,
            "temperature": 0.5,
            "jitter": 0.25,
        },
    }
    assert not MOVED.keys() & found.keys()
    assert (
        with_gate_options({**EARLIER_LORA, "gate": "cluster", "clusters": 5})["gate"]["init_args"]["clusters"]
        == 5
    )
    for other in (None, 3, {"experts": 2}, {"gate": "nearest", "top_k": 1}):
        assert with_gate_options(other) == other
