"""The whole command against a local server: requests, validation, cost, cache, resumption, and reading back."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks import read
from datamodules.instructions.build import build_instructions
from octavius.instruction.sample import Boxes
from tests.datamodules.instructions.official import write_coco, write_scannet
from tests.datamodules.instructions.server import Body, Reply, Server, failing, honest, saying, serving


def truth(_: int, body: Body) -> Reply:
    return saying(json.dumps({"pairs": honest(body)}))


def build(monkeypatch: pytest.MonkeyPatch, server: Server, source: Any, root: Path, **options: Any) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    split = "val2017" if source == "coco" else "train"
    return build_instructions(source, root, split, model="m", progress=False, **options)


def test_pictures_in_a_models_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_coco(tmp_path)
    with serving(truth) as server:
        out = build(monkeypatch, server, "coco", root, prices=(10.0, 30.0))
        said = capsys.readouterr().out
        assert (
            "sent 3 requests (0 retries, 0 malformed responses), 0 more were answered from the cache" in said
        )
        assert "from the cache: 300 tokens in, 30 out; " in said
        assert "cost 0.0039 at 10 and 30 a million" in said
        content = out.read_bytes()
        assert build(monkeypatch, server, "coco", root, prices=(10.0, 30.0)) == out
        assert (
            "sent 0 requests (0 retries, 0 malformed responses), 3 more were answered from the cache"
            in capsys.readouterr().out
        )
        assert len(server.bodies) == 3
    assert out.read_bytes() == content
    samples = read("conversations", root, "lamm_v2_val2017")
    assert len(samples) == len(json.loads(content))
    golds = [sample.gold for sample in samples if sample.task == "detection"]
    assert [len(gold.objects) for gold in golds if isinstance(gold, Boxes)] == [4, 1, 1]


def test_rooms_in_a_models_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_scannet(tmp_path)
    with serving(truth) as server:
        build(monkeypatch, server, "scannet", root)
        assert len(server.bodies) == 2  # the room, and its four objects together
    samples = read("scan2inst_clouds", root, "scan2inst_train")
    assert [sample.task for sample in samples] == ["vqa3d", "classification3d", "captioning3d"]
    assert samples[1].media["cloud"].region == samples[2].media["cloud"].region
    assert samples[0].media["cloud"].region is None


def test_what_is_rejected_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(_: int, body: Body) -> Reply:
        pairs = honest(body)
        if "Dogs & a man" in body["messages"][1]["content"]:
            pairs[0]["objects"][0]["box"] = [0, 0, 1, 1]
            pairs += [{"kind": "VQA", "question": "What?", "answer": "A bear.", "objects": []}]
        return saying(json.dumps({"pairs": pairs}))

    root = write_coco(tmp_path)
    with serving(answer) as server:
        out = build(monkeypatch, server, "coco", root, kinds=["detection"])
    rows = [json.loads(line) for line in out.with_suffix(".rejected.jsonl").read_text().splitlines()]
    assert [(row["about"], row["reason"]) for row in rows] == [
        ("7", "the box [0, 0, 1, 1] of 'person' is not in the annotation"),
        ("7", "the kind 'VQA' was not asked for"),
    ]
    assert rows[1]["pair"]["answer"] == "A bear."
    told = capsys.readouterr().out
    assert "rejected 2, listed in " in told
    assert "1 x the box .. of .. is not in the annotation, 1 x the kind .. was not asked for" in told
    assert len(read("conversations", root, "lamm_v2_val2017")) == 2


def test_a_request_without_an_answer_is_told_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_coco(tmp_path)
    with serving(lambda number, body: failing(400) if number == 0 else truth(number, body)) as server:
        out = build(monkeypatch, server, "coco", root, concurrency=1)
        assert "warning: 1 requests failed" in capsys.readouterr().err
        assert "no answer: " in out.with_suffix(".rejected.jsonl").read_text()
        few = len(json.loads(out.read_text()))
        build(monkeypatch, server, "coco", root, concurrency=1)
        assert len(server.bodies) == 4
    assert len(json.loads(out.read_text())) > few
    assert out.with_suffix(".rejected.jsonl").read_text() == ""


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(number: int, body: Body) -> Reply:
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
            return Reply(delay=0.5)
        return truth(number, body)

    root = write_coco(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with serving(answer) as server:
        try:
            with pytest.raises(KeyboardInterrupt):
                build(monkeypatch, server, "coco", root, concurrency=1)
        finally:
            signal.signal(signal.SIGINT, before)
        assert "stopped: 1 of 3 answers are cached in" in capsys.readouterr().err
        assert not (root / "lamm_v2_val2017.json").exists()
        build(monkeypatch, server, "coco", root, concurrency=1)
        assert len(server.bodies) == 4  # the one that was stopped, and the third


def test_nothing_is_asked_before_settings_and_files_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_coco(tmp_path / "coco")
    (tmp_path / "elsewhere").mkdir()
    with serving(truth) as server:
        with pytest.raises(ValueError, match="do not lie below"):
            build(monkeypatch, server, "coco", root, out=tmp_path / "elsewhere" / "x.json")
        build_instructions("coco", root, "val2017", progress=False)
        with pytest.raises(ValueError, match="made with other settings"):
            build(monkeypatch, server, "coco", root)
        assert server.bodies == []
