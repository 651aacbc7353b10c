"""A tiny model with pictures, clouds and experts, answers computed without the server, and an ASGI client."""

import asyncio
import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from octavius.decoder.decoder import Decoder
from octavius.encoders.base import Encoder
from octavius.encoders.image import ImageEncoder
from octavius.instruction.sample import References, Sample
from octavius.media.clouds import CloudLoader
from octavius.serve.app import CHAT, Limits, build_app
from octavius.serve.backend import Backend
from octavius.serve.engine import Engine
from octavius.serve.rows import Question
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe
from tests.tiny import write_models


class Spread(Encoder):
    """Two vectors of a cloud: mean and standard deviation of its points and colours."""

    width, num_tokens = 6, 2
    tags = ("<Pcl>", "</Pcl>")

    def loader(self) -> CloudLoader:
        return CloudLoader()

    def forward(self, media: Tensor) -> Tensor:
        return torch.stack([media.mean(1), media.std(1)], dim=1)

    def dummy_input(self) -> Tensor:
        return torch.zeros(1, 2, 6)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a tiny language model and a tiny CLIP."""
    return write_models(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="session")
def make_module(models: Path) -> Callable[..., OctaviusModule]:
    """Makes the same tiny module at each call; its experts and its random weights matter for what it says."""

    def make(experts: Any = 3, **options: Any) -> OctaviusModule:
        torch.manual_seed(0)
        decoder = Decoder(str(models / "language"))
        lora = None if experts is None else lora_moe(experts=experts, rank=2, dropout=0.0, **options)
        encoders = {"image": ImageEncoder(str(models / "clip")), "cloud": Spread()}
        module = OctaviusModule(decoder, encoders, lora, template=None)  # type: ignore[arg-type]
        for name, parameter in module.named_parameters():
            if name.endswith("lora_B") or "proj" in name or "gate" in name:
                nn.init.normal_(parameter, std=0.5)
        return module.eval()

    return make


@pytest.fixture(scope="session")
def module(make_module: Callable[..., OctaviusModule]) -> OctaviusModule:
    """The module with three experts and a gate over questions; do not change it."""
    return make_module()


@pytest.fixture(scope="session")
def twin(make_module: Callable[..., OctaviusModule]) -> OctaviusModule:
    """An equal module for answers without an engine, whose thread may still be leaving its last pass."""
    return make_module()


@pytest.fixture
def engine(module: OctaviusModule) -> Iterator[Engine]:
    """An engine that takes four rows at once."""
    with Engine(module, batch_size=4) as engine:
        yield engine


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def cloud() -> bytes:
    """A cloud in numpy's format."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).random((50, 6)).astype(np.float32))
    return file.getvalue()


def data_url(content: bytes, kind: str = "image/png") -> str:
    """A data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def asking(text: str, picture: bytes | None = None, cloud: bytes | None = None) -> dict[str, Any]:
    """A user message."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if picture is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_url(picture)}})
    if cloud is not None:
        parts.append({"type": "cloud_url", "cloud_url": {"url": data_url(cloud, "model/ply"), "box": "all"}})
    return {"role": "user", "content": parts}


def alone(module: OctaviusModule, question: Question) -> tuple[str, list[float]]:
    """The answer and the gate weights as `octavius predict` computes them."""
    sample = Sample(
        "question", "conversation", "demo", question.media, question.text, References(("",)), question.history
    )
    batch = module.processor.collate([module.processor.build_example(sample, question.text, None)])
    with torch.inference_mode():
        texts, gate = module.answer(batch, question.max_new_tokens)
    assert gate is not None
    return texts[0], gate[0].tolist()


class Response(NamedTuple):
    """What an application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object; asserts that it has OpenAI's form."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


Call = Callable[..., Response]


def caller(engine: Backend, token: str | None = None, **limits: Any) -> Call:
    """A function that sends a request to an application, without a socket."""
    app = build_app(engine, Limits(**limits), token)

    def call(
        body: Any = b"",
        path: str = CHAT,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        silent: bool = False,
    ) -> Response:
        sent = {"content-type": "application/json", **(headers or {})}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(_exchange(app, method, path, sent, content, silent))

    return call


async def _exchange(
    app: Any, method: str, path: str, headers: dict[str, str], body: bytes, silent: bool
) -> Response:
    parts = [body[start : start + 65536] for start in range(0, max(len(body), 1), 65536)]
    events = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        if events and not silent:
            return events.pop(0)
        await asyncio.sleep(3600)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
def call(engine: Engine) -> Call:
    """Calls an application without a socket; it grants 64 kB, 50 tokens and 20 s."""
    return caller(engine, body=65536, tokens=50, seconds=20.0)


def wait_until(true: Any, seconds: float = 60) -> None:
    """Waits for another thread."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)
