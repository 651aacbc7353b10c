"""Where bfloat16 is slow, training computes in float32, and the language model keeps the values of its own dtype."""

import warnings

import pytest
import torch

from octavius.distributed import precision
from octavius.distributed.precision import has_bfloat16, supported_precision


def on(monkeypatch: pytest.MonkeyPatch, gpu: bool, instructions: bool) -> None:
    """Makes this machine one with or without a GPU, and with a CPU of that kind."""
    products = type("Products", (), {"_is_mkldnn_bf16_supported": staticmethod(lambda: instructions)})
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.ops, "mkldnn", products, raising=False)


@pytest.mark.parametrize("instructions", [True, False])
def test_a_gpu_has_it_and_a_cpu_where_there_are_instructions(
    monkeypatch: pytest.MonkeyPatch, instructions: bool
) -> None:
    on(monkeypatch, True, instructions)
    assert has_bfloat16("auto")
    assert has_bfloat16("cuda")
    assert has_bfloat16("cpu") is instructions
    on(monkeypatch, False, instructions)
    assert has_bfloat16("auto") is has_bfloat16("cpu") is instructions


def test_a_build_without_onednn_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, False, True)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not has_bfloat16()


def test_float32_is_taken_and_said_where_bfloat16_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: False)
    with pytest.warns(UserWarning, match=r"no instructions for bfloat16 .* computed in float32"):
        assert supported_precision("bf16-mixed", "auto") == "32-true"


@pytest.mark.parametrize(
    ("asked", "fast"), [("bf16-mixed", True), ("32-true", False), ("16-mixed", False), (None, False)]
)
def test_what_is_affordable_stays(monkeypatch: pytest.MonkeyPatch, asked: str | None, fast: bool) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: fast)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert supported_precision(asked, "auto") == asked
