"""Every gate and layout in the whole model: what it writes, what it learns, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.lora_moe import LoRAMoELinear
from octavius.lora_moe.backends import BACKENDS, Backend
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.lora_moe.gates.question import pooled
from octavius.lora_moe.losses import auxiliary
from octavius.model import Octavius, mean_gate

MakeModel = Callable[..., Octavius]
MakeSample = Callable[..., Sample]
Write = Callable[..., Batch]
Row = tuple[Sample, str, str | None]

LEARNED: dict[str, dict[str, Any]] = {
    "top-1": {"top_k": 1},
    "dense": {"gate": "dense"},
    "source": {"gate": "source"},
    "affinity": {"gate": "affinity"},
    "source, per layer": {"gate": "source", "per_layer": True, "inputs": ["media"]},
    "universal": {"top_k": 1, "universal": True},
    "modality and media": {"inputs": ["modality", "media"]},
    "per layer": {"per_layer": True, "temperature": 0.5},
    "by depth": {"experts": [2, 4]},
    "shared A": {"shared_a": True},
    "token": {"gate": "token"},
    "token, universal, shared A": {"gate": "token", "top_k": 1, "universal": True, "shared_a": True},
    "token by depth, MLP": {"gate": "token", "experts": [2, 3], "targets": ["q_proj", "down_proj"]},
    "cluster": {"gate": "cluster", "clusters": 2},
    "cluster by depth": {"gate": "cluster", "clusters": 3, "experts": [3, 2], "top_k": 1},
}
FIXED: dict[str, dict[str, Any]] = {
    "individual": {"gate": "individual", "tasks": ["captioning", "vqa", "detection"]},
    "uniform": {"gate": "uniform", "init": "published", "scale": "published"},
}
AUTOMATIC = {
    "top-1": {"gathered"},
    "universal": {"gathered"},
    "by depth": {"concatenated", "gathered"},  # of two experts both are used
    "shared A": {"merged"},
}
"""What is taken for long rows."""
TURNS = [
    ("Is it red?", "no", ["image"]),
    ("What do you hear in the dark, and how many of them are there?", "two big cats", ["sound"]),
    ("Say something.", "a very long answer that goes on and on", []),
]


@pytest.fixture
def rows(make_sample: MakeSample) -> list[Row]:
    return [(make_sample(f"s{n}", *media), asked, said) for n, (asked, said, media) in enumerate(TURNS)]


@pytest.fixture
def build(make_model: MakeModel) -> Callable[..., Octavius]:
    """Makes a model with the options of `LoRAMoEConfig`; clusters are fitted to the questions of the turns."""

    def make(**options: Any) -> Octavius:
        model = make_model(**options)
        if isinstance(model.gate, ClusterGate):
            ids = [torch.tensor(model.decoder.tokenizer.encode(f" {asked}")) for asked, *_ in TURNS]
            mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
            embeddings = model.decoder.embed(pad_sequence(ids, batch_first=True)).detach()
            model.gate.fit(pooled(embeddings, mask, model.decoder.width))
        return model

    return make


@pytest.mark.parametrize("kind", [*LEARNED, *FIXED])
@pytest.mark.parametrize("beams", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_batch_is_answered_as_its_rows_are(
    build: MakeModel, rows: list[Row], write: Write, kind: str, beams: int
) -> None:
    model = build(**{**LEARNED, **FIXED}[kind]).eval()
    asked = [(sample, question, None) for sample, question, _ in rows]
    together, gates = model.generate(write(model.processor(), *asked), 6, num_beams=beams)
    assert gates is not None
    recomputed, _ = model.generate(write(model.processor(), *asked), 6, num_beams=beams, use_cache=False)
    assert recomputed == together
    for index, row in enumerate(asked):
        alone, gate = model.generate(write(model.processor(), row), 6, num_beams=beams)
        assert alone[0] == together[index]
        assert gate is not None
        if beams == 1:
            torch.testing.assert_close(gate[0], gates[index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["modality and media", "by depth", "token", "individual"])
def test_candidates_are_scored_as_their_answers_are_learnt(
    build: MakeModel, rows: list[Row], write: Write, kind: str
) -> None:
    model = build(**{**LEARNED, **FIXED}[kind]).eval()
    asked = [(sample, question, None) for sample, question, _ in rows]
    found = model.likelihoods(write(model.processor(), *asked), [[said, "no"] for *_, said in rows])
    for row, scores in zip(rows, found, strict=True):
        alone = model(write(model.processor(), row)).losses
        assert scores[0][0] == pytest.approx(-alone.sum().item(), abs=1e-3, rel=1e-4)


@pytest.mark.parametrize("kind", [*LEARNED, *FIXED])
def test_every_tensor_learns_whatever_is_in_the_batch(
    build: MakeModel, rows: list[Row], write: Write, kind: str
) -> None:
    model = build(**{**LEARNED, **FIXED}[kind])
    model(write(model.processor(), *rows)).losses.sum().backward()
    trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert any("gate." in name for name in trained) == (kind in LEARNED)
    # Of a cut gate a whole row may be unchosen; of all its tensors some value is.
    assert all(part.grad is not None and part.grad.abs().max() > 0 for part in trained.values())
    model.zero_grad()
    model(write(model.processor(), rows[2])).losses.sum().backward()  # no media
    assert all(part.grad is not None for part in trained.values())


@pytest.mark.parametrize(
    "kind",
    ["by depth", *(pytest.param(kind, marks=pytest.mark.slow) for kind in AUTOMATIC if kind != "by depth")],
)
def test_backends_lose_and_learn_alike(
    build: MakeModel, rows: list[Row], write: Write, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Long prompts, for which the automatic choice gathers, or adds up a shared A; one seed drops the same."""
    long = [(sample, asked + " and is it red" * 60, said) for sample, asked, said in rows]
    found, taken = [], []
    spied = {name: _spied(name, backend, taken) for name, backend in BACKENDS.items()}
    for name, backend in spied.items():
        monkeypatch.setitem(BACKENDS, name, backend)
    for name in ("concatenated", "auto", "gathered", "merged"):
        taken.clear()
        model = build(dropout=0.2, backend=name, **LEARNED[kind])
        torch.manual_seed(1)
        losses = model(write(model.processor(), *long)).losses
        losses.sum().backward()
        found.append({"losses": losses, **{key: part.grad for key, part in model.named_parameters()}})
        assert set(taken) == (AUTOMATIC[kind] if name == "auto" else {name})
    for one in found[1:]:
        for key, right in found[0].items():
            torch.testing.assert_close(
                one[key], right, rtol=1e-3, atol=1e-4, msg=lambda said, key=key: f"{key}: {said}"
            )


def _spied(name: str, backend: Backend, taken: list[str]) -> Backend:
    """The backend, that notes its name when it is called."""

    def spy(*inputs: Any) -> Tensor:
        taken.append(name)
        return backend(*inputs)

    return spy


@pytest.mark.parametrize("kind", ["top-1", "by depth", "token", "token, universal, shared A"])
def test_checkpointing_changes_no_gradient_of_answers_and_auxiliary_losses(
    build: MakeModel, rows: list[Row], write: Write, kind: str
) -> None:
    found: list[dict[str, Tensor | None]] = []
    for checkpointing in (False, True):
        options = {**LEARNED[kind], "losses": {"switch": 1.0, "certainty_balance": 1.0}, "jitter": 0.1}
        model = build(dropout=0.2, **options)
        if checkpointing:
            model.decoder.lm.gradient_checkpointing_enable(
                {"use_reentrant": False, "context_fn": model.routing.checkpoint_context}
            )
        torch.manual_seed(1)
        out = model(write(model.processor(), *rows))
        assert out.auxiliary.shape == (2,)
        (out.losses.sum() + out.auxiliary.sum()).backward()
        found.append({name: part.grad for name, part in model.named_parameters()})
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad)


def test_the_auxiliary_losses_of_token_gates_leave_padding_out(
    build: MakeModel, rows: list[Row], write: Write
) -> None:
    model = build(gate="token", losses={"cv": 1.0, "switch": 1.0})
    batch = write(model.processor(), *rows)
    out = model(batch)
    tables = []
    for layer in model.modules():
        if isinstance(layer, LoRAMoELinear):
            noted = layer.routing._noted
            assert noted is not None
            tables.append(noted)
    assert len(tables) == 8
    real = batch.attention_mask.bool()
    values = [auxiliary(["cv", "switch"], [type(t)(*(part[real] for part in t))], real) for t in tables]
    torch.testing.assert_close(out.auxiliary, torch.stack(values).mean(0))
    own = torch.stack([t.weights[1][real[1]].mean(0) for t in tables]).mean(0)
    torch.testing.assert_close(out.gate[1], own)


def test_layers_of_a_depth_read_that_depths_gate(build: MakeModel, rows: list[Row], write: Write) -> None:
    model = build(experts=[2, 4])
    batch = write(model.processor(), *rows)
    weights = model.route(batch)
    assert isinstance(weights, list)
    assert [table.shape for table in weights] == [(3, 2), (3, 4)]
    with model.routing.use(weights):
        for name, layer in model.named_modules():
            if isinstance(layer, LoRAMoELinear):
                depth = int(name.split("layers.")[1].split(".")[0])
                assert layer.routing.weights is weights[depth]
    choices = model._choices(batch, None)
    expected = (torch.nn.functional.pad(weights[0], (0, 2)) + weights[1]) / 2
    torch.testing.assert_close(mean_gate(choices, batch.attention_mask), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"gate": "nearest"},
            "there is no gate 'nearest'; gates are source, affinity, instance, dense, token",
        ),
        ({"top_k": 4}, "more experts than there are: top_k = 4, experts = 3"),
        ({"gate": "token", "top_k": 4}, "more experts than there are: top_k = 4, experts = 3"),
        ({"rank": 0}, "rank should be a whole number of at least 1"),
        ({"targets": ["w_q"]}, "targets that match no linear layer"),
        ({"gate": "individual"}, r"found experts = 3, tasks = \[\]"),
        ({"gate": "individual", "tasks": ["vqa"]}, r"found experts = 3, tasks = \['vqa'\]"),
        (
            {"gate": "individual", "tasks": ["vqa", "captions", "detection"]},
            r"`tasks` name \['captions'\] [(]did you mean 'captioning'",
        ),
        ({"experts": [2, 3, 4]}, "one for each of the 2 layers of the model, .* found 3 numbers"),
        ({"experts": [2, 3], "targets": ["lm_head"]}, "lies at no depth of the model"),
        ({"losses": {"variance": 1.0}}, r"no auxiliary losses \['variance'\]; they are cv, switch"),
        (
            {"losses": {"cv": 1.0}, "gate": "uniform"},
            "UniformGate has nothing to train; leave `losses` out",
        ),
        (
            {"gate": "token", "per_layer": True, "jitter": 0.1},
            "TokenGate has no option 'per_layer'; it has top_k, universal",
        ),
        ({"gate": "dense", "universal": True}, "DenseGate has no option 'universal'; it has inputs"),
        (
            {"gate": "cluster", "jitter": 0.1, "tasks": ["vqa"]},
            "ClusterGate has no option 'jitter'",
        ),
        ({"losses": {"cv": 1.0}, "experts": 1}, "auxiliary losses train a gate"),
        ({"universal": True}, "expected at least top_k [+] 2 experts"),
    ],
)
def test_impossible_settings_are_told(make_model: MakeModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(**options)
