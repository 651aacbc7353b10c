"""The real llama-server computes the mixture that the model computes, for routings that differ by request.

Skipped unless llama-server is on the PATH, or the environment variable OCTAVIUS_LLAMA_SERVER names it.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import torch
from torch import Tensor

from octavius.cli.serve import listening
from octavius.llama_cpp.export import write_gguf
from octavius.llama_cpp.gate import read_gate
from octavius.serve.llama_server import LlamaServer
from octavius.serve.rows import Question
from octavius.training import OctaviusModule
from tests.octavius.llama_cpp.models import ROUTINGS, logits, tuned, write_language
from tests.octavius.serve.conftest import Call, alone, caller
from tests.tiny import SHIPPED

PROGRAM = os.environ.get("OCTAVIUS_LLAMA_SERVER") or shutil.which("llama-server")
pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="there is no llama-server on the PATH, and OCTAVIUS_LLAMA_SERVER does not name one",
)
MOST = 1e-3
"""Largest difference of a probability; llama.cpp keeps keys and values in half precision."""


@contextmanager
def llama_server(folder: Path) -> Iterator[str]:
    """Runs llama-server on an export by the options of the command in its model card."""
    exported = read_gate(folder)
    with listening("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    words = ["--model", exported.base, "--lora", ",".join(exported.experts), "--port", str(port)]
    log = (folder.parent / "llama-server.log").open("w")
    process = subprocess.Popen(
        [str(PROGRAM), *words, "--threads", "1", "--parallel", "1"], cwd=folder, stdout=log, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, Path(log.name).read_text()[-2000:]
            try:
                urlopen(f"{url}/health").close()
                break
            except URLError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def write(module: OctaviusModule, folder: Path) -> Path:
    folder.mkdir()
    write_gguf(module, folder)
    return folder


@pytest.fixture(scope="module")
def module() -> OctaviusModule:
    """The shipped language model with experts that change its answers."""
    return tuned("miniature/language", targets=["q_proj", "k_proj", "v_proj", "o_proj"])


@pytest.fixture(scope="module")
def folder(module: OctaviusModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert Path(module.model.decoder.name).name == (SHIPPED / "language").name
    return write(module, tmp_path_factory.mktemp("real") / "out")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with llama_server(folder) as url:
        yield url


def probabilities(url: str, ids: list[int], weights: tuple[float, ...], size: int, **options: Any) -> Tensor:
    """Probabilities (V,) of the next token."""
    lora = [{"id": index, "scale": weight} for index, weight in enumerate(weights)]
    body = {"prompt": ids, "n_predict": 1, "n_probs": size, "temperature": 0, "lora": lora}
    data = json.dumps({**body, "cache_prompt": False, **options}).encode()
    with urlopen(Request(f"{url}/completion", data, {"Content-Type": "application/json"})) as response:
        answer = json.load(response)
    assert "completion_probabilities" in answer, answer
    [found] = answer["completion_probabilities"]
    result = torch.zeros(size)
    for one in found["top_logprobs"]:
        result[one["id"]] = one["logprob"]
    assert len(found["top_logprobs"]) == size
    return result.exp()


def prompt_of(module: OctaviusModule, question: str) -> list[int]:
    tokenizer = module.model.decoder.tokenizer
    text = f"### Human: {question}\n### Assistant:"
    return [int(tokenizer.bos_id or 0), *tokenizer.encode(text, special=True)]


def compared(module: OctaviusModule, url: str) -> list[float]:
    """Largest differences of probabilities for each routing, after checking that routings differ by much more."""
    for question in (
        "What is the colour of the large circle?",
        *(f"Describe {n} things." for n in range(40)),
    ):
        ids = prompt_of(module, question)
        expected = [logits(module, torch.tensor([ids]), weights)[0, -1].softmax(-1) for weights in ROUTINGS]
        # The server gives no probabilities of a token that ends the answer, or that is a part of a character.
        texts = [module.model.decoder.tokenizer.backend.decode([int(one.argmax())]) for one in expected]
        if all(text.isprintable() and "\ufffd" not in text and "<" not in text for text in texts):
            break
    found = [probabilities(url, ids, weights, len(expected[0])) for weights in ROUTINGS]
    between = [float((one - other).abs().max()) for one in expected for other in expected if one is not other]
    differences = [float((one - other).abs().max()) for one, other in zip(expected, found, strict=True)]
    assert min(between) > 4 * max(differences)
    return differences


def test_probabilities_are_those_of_the_model(module: OctaviusModule, url: str) -> None:
    differences = compared(module, url)
    print(differences)
    assert max(differences) < MOST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 1000.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 32,
                }
            },
        ),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {}),
    ],
)
def test_each_architecture_computes_what_the_model_does(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    module = tuned(write_language(tmp_path / "language", kind, **options), targets=targets)
    with llama_server(write(module, tmp_path / "out")) as url:
        differences = compared(module, url)
    print(kind, differences)
    assert max(differences) < MOST


def test_states_of_other_scales_are_not_reused(module: OctaviusModule, url: str) -> None:
    first, second = (
        prompt_of(module, "What is the colour of the circle?"),
        prompt_of(module, "Describe. " * 9),
    )
    expected = logits(module, torch.tensor([first]), ROUTINGS[1])[0, -1].softmax(-1)
    errors = []
    for cache in (True, False):
        for ids, weights in ((first, ROUTINGS[0]), (second, ROUTINGS[1]), (first, ROUTINGS[1])):
            found = probabilities(url, ids, weights, len(expected), cache_prompt=cache)
        errors.append(float((found - expected).abs().max()))
    print(errors)
    assert errors[1] < MOST  # the first is wrong where the server keeps earlier prompts in its memory


@pytest.fixture(scope="module")
def backend(folder: Path, url: str) -> Iterator[LlamaServer]:
    with LlamaServer(read_gate(folder), url) as backend:
        yield backend


@pytest.fixture
def call(backend: LlamaServer) -> Call:
    return caller(backend, body=65536, tokens=50, seconds=60.0)


@pytest.mark.parametrize(
    "question", ["What is the colour of the circle?", "Describe the picture.", "Caf\u00e9 </s> \u4f60?"]
)
def test_answers_are_those_of_the_model(module: OctaviusModule, call: Call, question: str) -> None:
    text, gate = alone(module, Question(question, max_new_tokens=12))
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 12}
    found = call(body).json
    assert found["choices"][0]["message"]["content"] == text
    assert found["experts"]["weights"] == pytest.approx(gate, abs=1e-6)
    streamed = call({**body, "stream": True}).body.decode().split("\n\n")
    parts = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in streamed[:-2]]
    assert "".join(part.get("content", "") for part in parts) == text


def test_forced_experts_change_the_answer(call: Call) -> None:
    body = {"messages": [{"role": "user", "content": "Describe the picture."}], "max_tokens": 20}
    alone = [[float(index == other) for other in range(4)] for index in range(4)]
    texts = {call({**body, "experts": weights}).json["choices"][0]["message"]["content"] for weights in alone}
    assert len(texts) > 1


def test_a_seed_gives_the_same_answer(call: Call) -> None:
    body = {"messages": [{"role": "user", "content": "Describe."}], "temperature": 1.5, "max_tokens": 20}
    texts = [
        call({**body, "seed": seed}).json["choices"][0]["message"]["content"]
        for seed in (3, 3, (1 << 32) - 1)
    ]
    assert texts[0] == texts[1] != texts[2]
