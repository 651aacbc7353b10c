"""The adapter for lmms-eval answers as `octavius predict` does.

lmms-eval is no dependency: the calls are made by a stand-in of its requests. `docs/evaluation.md` says how it was
tried with lmms-eval itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octavius.cli import lmms_eval
from octavius.cli.lmms_eval import Octavius
from octavius.cli.predict import ask
from octavius.instruction.sample import Media
from octavius.training import OctaviusModule
from tests.octavius.serve.conftest import make_module, models  # noqa: F401 - fixtures

COLOURS = ("red", "navy", "white", "green", "black")


@dataclass
class Request:
    """The part of lmms-eval's `Instance` that the adapter reads."""

    args: tuple[Any, ...]
    task_name: str = "colours"


@pytest.fixture
def model(
    make_module: Callable[..., OctaviusModule],  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> Octavius:
    monkeypatch.setattr(lmms_eval, "load", lambda *_: make_module().eval())
    monkeypatch.setattr(lmms_eval, "find_checkpoint", Path)
    found = Octavius("tiny.ckpt", batch_size="2", device="cpu", max_batch_size=None)
    documents = [{"picture": Image.new("RGB", (40, 30), colour)} for colour in COLOURS]
    found.task_dict = {"colours": {"test": [*documents, {"picture": None}]}}
    return found


def request(document: int, **options: Any) -> Request:
    said = {"max_new_tokens": 5, "temperature": 0, "do_sample": False, "num_beams": 1, **options}

    def pictures(found: dict[str, Any]) -> list[Image.Image]:
        return [found["picture"]] if found["picture"] else []

    return Request((f"<image>\nWhat is number {document}?", said, pictures, document, "colours", "test"))


def test_answers_are_those_of_predict_in_the_order_of_the_requests(model: Octavius) -> None:
    asked = [request(index, max_new_tokens=3 + index % 2) for index in (3, 0, 5, 1, 2, 4)]
    answers = model.generate_until(asked)
    for one, answer in zip(asked, answers, strict=True):
        _, options, to_pictures, document, _, _ = one.args
        pictures = to_pictures(model.task_dict["colours"]["test"][document])
        media = {name: Media(array=np.asarray(one)) for name, one in zip(["image"], pictures, strict=False)}
        expected, _ = ask(model.module, f"What is number {document}?", media, options["max_new_tokens"])
        assert answer == expected
    assert len({*answers}) > 1, "answers depend on the question"


def test_answers_end_before_stop_strings(model: Octavius) -> None:
    (whole,) = model.generate_until([request(0)])
    assert len(whole) > 2
    assert model.generate_until([request(0, until=[whole[2], ""])]) == [whole.split(whole[2])[0]]
    assert model.generate_until([request(0, until=whole[0])]) == [""]


def test_options_of_generation_are_passed_on(model: Octavius, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[dict[str, Any]]()

    def answer(batch: Any, limit: int, **options: Any) -> tuple[list[str], None]:
        seen.append({"limit": limit, **options})
        return [""] * len(batch.samples), None

    monkeypatch.setattr(model.module, "answer", answer)
    model.generate_until([request(0, temperature=0.5, top_p=0.8, do_sample=True), request(1, num_beams=3)])
    sampled = {"limit": 5, "num_beams": 1, "do_sample": True, "temperature": 0.5, "top_p": 0.8}
    assert seen == [sampled, {"limit": 5, "num_beams": 3}]


def test_what_cannot_be_asked_is_refused(model: Octavius) -> None:
    picture = Image.new("RGB", (4, 4))
    question, options, _, *place = request(0).args
    with pytest.raises(ValueError, match="document 0 of colours has 2 pictures; Octavius takes one"):
        model.generate_until([Request((question, options, lambda _: [picture, picture], *place))])
    with pytest.raises(ValueError, match=r"document 0 of colours has a file, a\.mp4; expected a picture"):
        model.generate_until([Request((question, options, lambda _: ["a.mp4"], *place))])
    with pytest.raises(NotImplementedError, match="colours asks for likelihoods"):
        model.loglikelihood([request(0)])
    with pytest.raises(NotImplementedError, match="colours asks in several rounds"):
        model.generate_until_multi_round([request(0)])
