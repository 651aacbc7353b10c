"""Gates, which map a sample or a token to weights over the experts, one file per gate.

A new gate is a subclass of `Gate` in a file here, imported below, plus an entry in `GATES` if it should have a short
name. A configuration may also name a gate that is not imported here, by its whole `class_path`.
"""

from octavius.lora_moe.gates.affinity import AffinityGate
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.lora_moe.gates.dense import DenseGate
from octavius.lora_moe.gates.individual import IndividualGate
from octavius.lora_moe.gates.instance import InstanceGate
from octavius.lora_moe.gates.published import PublishedGate
from octavius.lora_moe.gates.source import SourceGate
from octavius.lora_moe.gates.token import TokenGate
from octavius.lora_moe.gates.uniform import UniformGate

GATES: dict[str, type[Gate]] = {
    "source": SourceGate,
    "affinity": AffinityGate,
    "instance": InstanceGate,
    "dense": DenseGate,
    "token": TokenGate,
    "individual": IndividualGate,
    "uniform": UniformGate,
    "cluster": ClusterGate,
    "published": PublishedGate,
}
"""Gate classes by short name: `gate: instance` in a configuration is that class with its default options."""
