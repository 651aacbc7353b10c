"""Random annotation files are read quickly, into samples that can be saved or one error message."""

import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.benchmarks import read
from datamodules.sources import Source
from datamodules.suite import SUITE
from octavius.cli.reporting import USER_ERRORS
from octavius.errors import message
from octavius.instruction.golds import to_json
from octavius.instruction.sample import Sample
from tests.datamodules import data_root

SECONDS, GIB = 60, 2**30

SOURCES = [
    *(SUITE[name][0] for name in SUITE if len(SUITE[name]) == 1),
    Source("scienceqa_reasoned", "test", "scienceqa", name="scienceqa_reasoned"),
    Source("flickr30k_tokens", "test", "flickr30k_tokens", name="flickr30k_tokens"),
    Source("scanqa_reasoned", "val", "scannet", name="scanqa_reasoned"),
    Source("scanrefer_dense_captioning", "val", "scannet", name="dense"),
    Source("conversations", "train", "conversations", name="conversations"),
    Source("messages", "train", "messages", name="messages"),
    Source("scan2inst_clouds", "train", "scannet", name="scan2inst_clouds"),
    Source("class_folder", "train", "classes", name="class_folder"),
]
NAMES = {source.title: source for source in SOURCES}
MEDIA = {".jpg", ".png"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with everything in it; it is not to be changed."""
    root = data_root.write(tmp_path_factory.mktemp("fuzz") / "data")
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}]
    data_root.picture(root / "conversations" / "1.jpg")
    box = "<a><Item><x1>0</x1><y1>0</y1><x2>1</x2><y2>1</y2><cls>dog</cls></Item></a>"
    found = [{"from": "human", "value": "Find."}, {"from": "gpt", "value": box}]
    items: list[dict[str, Any]] = [
        {"id": "1", "image": "1.jpg", "conversations": said},
        {"id": 2, "image": "1.jpg", "conversations": found, "task_type": "detection"},
    ]
    data_root.text(root / "conversations" / "train.json", json.dumps(items))
    data_root.picture(root / "messages" / "a" / "1.jpg")
    two = [{"role": "user", "content": "<image>Like <image>?"}, {"role": "assistant", "content": "No."}]
    record = json.dumps({"id": 1, "messages": two, "images": ["a/1.jpg", "a/1.jpg"]})
    data_root.text(root / "messages" / "train.jsonl", f"{record}\n{record}\n")
    asked = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A bed."}]
    item = {"scene_id": "scene0001_00", "task_type": "VQA3D", "conversations": asked}
    data_root.text(root / "scannet" / "train.json", json.dumps([item]))
    data_root.picture(root / "classes" / "train" / "dog" / "1.png")
    data_root.picture(root / "flickr30k_tokens" / "flickr30k-images" / "1.jpg")
    data_root.text(
        root / "flickr30k_tokens" / "results_20130124.token", "1.jpg#0\tA dog .\n1.jpg#1\tA cat .\n"
    )
    data_root.text(root / "flickr30k_tokens" / "test.txt", "1\n")
    return root


@contextmanager
def limits() -> Iterator[None]:
    """Within them no more than so many seconds pass, and no more than 2 GB of memory are taken."""

    def late(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"it took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024 < 2 * GIB


def outcome(source: Source, root: Path) -> None:
    """Reads by both policies; whatever comes can be shown and written."""
    for policy in ("error", "skip"):
        with limits(), warnings.catch_warnings(record=True):
            said = ""
            try:
                samples = read(source.benchmark, root, source.split, policy)  # type: ignore[arg-type]
            except USER_ERRORS as error:
                samples, said = [], message(error)
            assert len(said.encode("utf-8", "backslashreplace")) < 5000
            for one in samples:
                writable(one)


def writable(sample: Sample) -> None:
    """Fails where a text is none, or a number is not finite."""
    facts = [sample.id, sample.question, sample.history, sample.group, to_json(sample.gold)]
    json.dumps(facts, ensure_ascii=False, allow_nan=False).encode()
    for _, medium in sample.all_media:
        os.fsencode(medium.path or "")


def texts(replaced: bytes) -> Callable[[bytes], bytes]:
    """Puts bytes in the place of the first word in quotes or, where there is none, of the first word."""

    def change(content: bytes) -> bytes:
        parts = content.split(b'"')
        if len(parts) > 4:
            parts[3] = replaced
            return b'"'.join(parts)
        words = content.split(b" ", 1)
        return b" ".join([replaced, *words[1:]])

    return change


def every_number(replaced: bytes) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(rb"-?\b[0-9]+(\.[0-9]+)?\b", replaced, content)


ENTITIES = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "deep lists": lambda _: b"[" * 100_000,
    "deep lists, closed": lambda _: b"[" * 100_000 + b"]" * 100_000,
    "deep objects": lambda _: b'{"images":' * 100_000,
    "rather deep": lambda _: b"[" * 900 + b"]" * 900,
    "wide": lambda _: b"[" + b"{}," * 30_000 + b"{}]",
    "wide lists": lambda _: b"[" + b"[]," * 30_000 + b"[]]",
    "350 digits": every_number(b"9" * 350),
    "5000 digits": every_number(b"9" * 5_000),
    "overflow": every_number(b"1e39"),
    "far overflow": every_number(b"1e400"),
    "not a number": every_number(b"NaN"),
    "infinity": every_number(b"-Infinity"),
    "negative": every_number(b"-1"),
    "fractions": every_number(b"0.5"),
    "true": every_number(b"true"),
    "null": every_number(b"null"),
    "numbers as texts": every_number(b'"1"'),
    "lists": every_number(b"[1]"),
    "byte-order mark": lambda content: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "UTF-16 without a mark": lambda content: content.decode("latin-1").encode("utf-16-le"),
    "half a pair": texts(rb"\ud83d"),
    "half a pair in UTF-8": texts(b"\xed\xa0\xbd"),
    "not UTF-8": texts(b"caf\xe9"),
    "up": texts(b"../../../etc/passwd"),
    "absolute": texts(b"/etc/passwd"),
    "zero byte": texts(rb"\u0000"),
    "zero byte itself": texts(b"\0"),
    "long name": texts(b"a" * 5_000),
    "deep name": texts(b"a/" * 3_000),
    "line separator": texts("a\u2028b\x85".encode()),
    "a quote": lambda content: content.replace(b",", b',"', 1),
    "a gigantic field": texts(b"x" * 900_000),
    "quotes": lambda content: content + b'"' * 999,
    "cut": lambda content: content[: len(content) * 2 // 3],
    "twice": lambda content: content + content,
    "zip": lambda content: b"PK\x03\x04" + content,
    "gzip": gzip.compress,
    "zeros": lambda content: b"\0" * len(content),
    "noise": lambda content: random.Random(0).randbytes(len(content)),
    "laughs": lambda _: b'<!DOCTYPE b [<!ENTITY l0 "lol">' + ENTITIES + b"]><b>&l11;</b>",
    "outside entity": lambda _: b'<!DOCTYPE b [<!ENTITY x SYSTEM "file:///dev/zero">]><b>&x;</b>',
    "deep XML": lambda _: b"<a>" * 100_000,
    "many attributes": lambda _: b"<a " + b" ".join(b'a%d=""' % n for n in range(50_000)) + b"/>",
    "backslashes": lambda content: content.replace(b"/", b"\\"),
    "tabs": lambda content: content.replace(b" ", b"\t"),
    "commas": lambda content: content.replace(b" ", b",,"),
    "no line ends": lambda content: content.replace(b"\n", b" "),
    "keys twice": lambda content: content.replace(b'{"', b'{"id": 1, "id": 2, "'),
}


def annotations(root: Path) -> list[Path]:
    """The files of a data set that readers open; of features one of each kind is enough."""
    return sorted(file for file in root.rglob("*") if file.is_file() and file.suffix not in MEDIA)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_of_damages(whole: Path, tmp_path: Path, name: str) -> None:
    source = NAMES[name]
    root = Path(shutil.copytree(whole / source.folder, tmp_path / "data"))
    outcome(source, root)
    for file in annotations(root):
        content = file.read_bytes()
        for kind, damage in DAMAGE.items():
            file.write_bytes(damage(content))
            try:
                outcome(source, root)
            except Exception as error:
                error.add_note(f"{kind} {file.name}")
                raise
        file.write_bytes(content)


def pipe(file: Path) -> None:
    os.mkfifo(file)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pipe", "folder", "zeros", "itself", "unreadable"])
def test_what_is_no_file_is_not_waited_for(whole: Path, tmp_path: Path, name: str, kind: str) -> None:
    source = NAMES[name]
    root = Path(shutil.copytree(whole / source.folder, tmp_path / "data"))
    make: dict[str, Callable[[Path], object]] = {
        "pipe": pipe,
        "folder": lambda file: file.mkdir(),
        "zeros": lambda file: file.symlink_to("/dev/zero"),
        "itself": lambda file: file.symlink_to(file),
        "unreadable": lambda file: (file.write_bytes(b"[]"), file.chmod(0)),
    }
    for file in annotations(root):
        content = file.read_bytes()
        file.unlink()
        make[kind](file)
        outcome(source, root)
        file.rmdir() if kind == "folder" else file.unlink()
        file.write_bytes(content)


TEXTS = [
    "",
    " ",
    "0",
    "1",
    "zz",
    "../x",
    "/etc/passwd",
    "\0",
    "\ud800",
    "a" * 300,
    "<image>",
    "<video>",
    "a, b",
]
TEXTS += ["[IMG]", "x.mp4", "scene0000_00", "Infinity", "1e5", "\u0663", "\u202e", "$$", "a\nb"]
NUMBERS = [0, 1, -1, 2**63, 10**350, 1.5, float("nan"), float("inf"), 1e39]
odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, [], [[]], {}, [1], {"a": 1}, *NUMBERS, *TEXTS]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where all values of a JSON document are."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any, how: str) -> Any:
    """The document with another value there, or without it, or with a key beside it."""
    if not path:
        return new
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copy[key] = changed(copy[key], tuple(rest), new, how)
    elif how == "remove":
        del copy[key]
    elif how == "double" and isinstance(copy, list):
        copy.append(copy[key])
    elif how == "add" and isinstance(copy, dict):
        copy[f"{key}_video"] = new
    else:
        copy[key] = new
    return copy


JSON = [name for name in NAMES if name not in ("celeba_hair", "celeba_smile", "cifar10", "class_folder")]


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_of_another_kind(whole: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    source = NAMES[name]
    root = tmp_path / "data"
    if not root.exists():
        shutil.copytree(whole / source.folder, root)
    files = [file for file in annotations(root) if file.suffix == ".json"]
    if not files:
        pytest.skip("no JSON")
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    document = json.loads(content)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.sampled_from(list(places(document))))
        how = data.draw(st.sampled_from(["change", "remove", "double", "add"]))
        document = changed(document, where, data.draw(odd), how)
    file.write_text(json.dumps(document))
    try:
        outcome(source, root)
    finally:
        file.write_bytes(content)
