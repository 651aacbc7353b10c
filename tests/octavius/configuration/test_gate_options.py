"""The gate in a configuration: short names, options, layers of configurations, and the keys of earlier versions."""

from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentError

from octavius.checkpoint.saved_configuration import with_current_names
from octavius.checkpoint_format.configuration import Configuration
from octavius.configuration.parser import LightningParser
from octavius.configuration.rules import merging_rules
from octavius.errors import message
from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.earlier import MOVED
from tests.octavius.settings import EARLIER_GATES, EARLIER_LORA
from tests.selection import mostly_slow

COMPLETE = [
    *("--model=OctaviusModule", "--model.decoder=Decoder", "--model.decoder.name=x", "--model.encoders={}"),
    *("--data=ImageInstructions", "--data.root=r"),
]


def gate_of(parser: LightningParser, *words: str) -> tuple[str, dict[str, Any]]:
    """The name of the gate's class, and its options."""
    with merging_rules():
        found = parser.parse_args([*COMPLETE, *words])
        text = parser.dump(found, skip_validation=True)
    again: Any = yaml.safe_load(text)["model"]["init_args"]["lora"]["gate"]
    with merging_rules():  # what is printed and saved means the same
        second = parser.parse_args(["--config", text])
    assert second.model.init_args.lora == found.model.init_args.lora
    return again["class_path"].rpartition(".")[2], again.get("init_args", {})


@pytest.mark.parametrize(
    "name",
    ["instance", *(pytest.param(name, marks=pytest.mark.slow) for name in GATES if name != "instance")],
)
def test_a_short_name_is_a_class_with_its_defaults(parser: LightningParser, name: str) -> None:
    kind = GATES[name].__name__
    assert gate_of(parser, "--model.lora.gate", name) == gate_of(parser, "--model.lora.gate", kind)
    assert gate_of(parser, "--model.lora", f"{{gate: {name}}}")[0] == kind
    spelled = f"{{gate: {{class_path: {name}, init_args: {{}}}}}}"
    assert gate_of(parser, "--model.lora", spelled)[0] == kind


@pytest.mark.parametrize(
    "words",
    mostly_slow(
        [
            ["--model.lora.gate", "instance", "--model.lora.gate.init_args.top_k", "1"],
            ["--model.lora.gate", "instance", "--model.lora.gate.top_k", "1"],
            ["--model.lora.gate.init_args.top_k", "1"],
            ["--model.lora.gate.top_k=1"],
            ["--model.init_args.lora.gate.init_args.top_k", "1"],
            ["--model.lora", "{gate: {init_args: {top_k: 1}}}"],
            ["--model.lora", "{experts: 4}", "--model.lora.gate.init_args.top_k", "1"],
            [
                "--config",
                "model: {init_args: {lora: {gate: {class_path: InstanceGate, init_args: {top_k: 1}}}}}",
            ],
            ["--config", "model: {init_args: {lora: {gate: {init_args: {top_k: 1}}}}}"],
            [
                *("--config", "model: {init_args: {lora: {experts: 2, gate: instance}}}"),
                *("--config", "model: {init_args: {lora: {gate: {init_args: {top_k: 1}}}}}"),
            ],
        ],
        4,
    ),
    ids=" ".join,
)
def test_options_may_be_given_in_every_form(parser: LightningParser, words: list[str]) -> None:
    name, options = gate_of(parser, *words)
    assert name == "InstanceGate"
    assert options["top_k"] == 1
    assert options["temperature"] == 1.0


def test_another_gate_begins_with_its_defaults_and_the_same_one_keeps_its_options(
    parser: LightningParser,
) -> None:
    first = ["--model.lora", "{gate: {class_path: SourceGate, init_args: {top_k: 1, temperature: 0.5}}}"]
    name, options = gate_of(parser, *first, "--model.lora.gate.init_args.jitter", "0.1")
    assert name == "SourceGate"
    assert (options["top_k"], options["temperature"], options["jitter"]) == (1, 0.5, 0.1)
    name, options = gate_of(parser, *first, "--model.lora.gate", "token")
    assert (name, options["top_k"], options["temperature"]) == ("TokenGate", 2, 1.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "{class_path: DenseGate, init_args: {top_k: 1}}",
            "DenseGate has no option 'top_k'; it has inputs, ",
        ),
        ("{class_path: uniform, init_args: {jiter: 1}}", "UniformGate has no option 'jiter'"),
        ("{class_path: instance, init_args: {jiter: 1}}", "did you mean 'jitter'"),
        ("{class_path: instance, init_args: {top_k: many}}", "top_k: expected int, found many"),
        (
            "{class_path: instance, init_args: {inputs: [sound]}}",
            "inputs: expected one of 'modality', 'media', found sound",
        ),
        ("{class_path: instance, init_args: {top_k: null, jitter: x}}", "jitter: expected float, found x"),
        (
            "instnace",
            "there is no gate 'instnace' (did you mean 'instance'?); gates are source, affinity, instance",
        ),
        ("Decoder", "there is no gate 'Decoder'"),
        ("my_module.Gate", "No module named 'my_module'"),
        ("torch.nn.Linear", "to be a subclass of"),
        ("[instance]", "expected a gate by its short name or its class_path, found ['instance']"),
    ],
)
def test_what_a_gate_does_not_have_is_refused(parser: LightningParser, value: str, said: str) -> None:
    with merging_rules(), pytest.raises(ArgumentError) as error:
        parser.parse_args([*COMPLETE, "--model.lora", f"{{gate: {value}}}"])
    assert said in message(error.value)


@pytest.mark.parametrize("old", MOVED)
@pytest.mark.parametrize("form", ["--model.lora.{}={}", "--model.lora={{{}: {}}}", "--config"])
def test_an_earlier_key_is_refused_with_its_present_name_and_value(
    parser: LightningParser, old: str, form: str
) -> None:
    text = f"model: {{init_args: {{lora: {{{old}: 7}}}}}}"
    words = [form, text] if form == "--config" else [form.format(old, 7)]
    with merging_rules(), pytest.raises(ArgumentError) as error:
        parser.parse_args([*COMPLETE, *words])
    assert f"{old} is gate.init_args.{MOVED[old]} now" in message(error.value)
    assert f"gate: {{init_args: {{{MOVED[old]}: 7}}}}" in message(error.value)


@pytest.mark.parametrize("name", mostly_slow(EARLIER_GATES, 3))
def test_saved_settings_of_earlier_versions_are_those_of_now(parser: LightningParser, name: str) -> None:
    changed = {"tasks": ["vqa", "captioning", "detection"]} if name == "individual" else {}
    saved = {**EARLIER_LORA, "gate": name, **changed}
    content = {"model": {"init_args": {"lora": saved}}, "seed_everything": 3}
    text = with_current_names(Configuration(yaml.safe_dump(content), "last.yaml"))
    found, options = gate_of(parser, "--config", text)
    assert found == GATES[name].__name__
    expected = gate_of(parser, "--model.lora.gate", name)[1]
    kept = (
        {"top_k": EARLIER_LORA["top_k"]} if name == "source" else {}
    )  # it takes all experts now, by default
    assert options == {**expected, **changed, **kept}
    assert yaml.safe_load(text)["seed_everything"] == 3
    assert with_current_names(Configuration(text, "last.yaml")) == text
