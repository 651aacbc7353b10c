"""Hostile responses of a server: requests end, stay within memory, are cached, are sent once, and leak no secret."""

import base64
import gzip
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.instructions.build import build_instructions
from datamodules.instructions.by_model import fault
from datamodules.instructions.endpoint import Endpoint, ask_all, connect, said_in
from datamodules.instructions.http import LARGEST
from datamodules.instructions.redaction import STRUCK
from datamodules.instructions.response_cache import ResponseCache
from datamodules.instructions.validation import pairs_of
from tests.datamodules.instructions.official import write_coco
from tests.datamodules.instructions.server import Body, Reply, Server, honest, saying, serving
from tests.selection import mostly_slow

KEY = "sk-proj-AbCd+1234/efgh5678IJKL=mnop"
PASSWORD = "p@ss:w/rd-92"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def ask(url: str, file: Path, count: int = 1, **options: Any) -> tuple[dict[str, str], ResponseCache]:
    asked = Endpoint("m", url, **{"timeout": 5.0, "retries": 0, "concurrency": 2, **options})
    bodies = {str(n): asked.body([{"role": "user", "content": str(n)}]) for n in range(count)}
    answers = ResponseCache(file)
    return ask_all(asked, bodies, answers, fault, progress=False)[1], answers


@contextmanager
def raw(script: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that writes to the bare connection; the address of it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65536)
            script(connection)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        listening.close()


def choices(value: Any, **more: Any) -> Reply:
    return Reply(body=json.dumps({"choices": value, **more}).encode())


def message(value: Any) -> Reply:
    return choices([{"message": {"role": "assistant", "content": value}}])


ODD = {
    "no body": Reply(body=b""),
    "204": Reply(status=204, body=b""),
    "page": Reply(body=b"<html>busy</html>", headers={"Content-Type": "text/html"}),
    "wrong type": Reply(body=b"\x89PNG", headers={"Content-Type": "image/png"}),
    "unknown charset": Reply(body=b"{}", headers={"Content-Type": "application/json; charset=nonsense"}),
    "invalid utf-8": Reply(body=b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "deep": Reply(body=b"[" * 100_000),
    "deep object": Reply(body=b'{"choices":' * 50_000 + b"1" + b"}" * 50_000),
    "long number": Reply(body=b'{"choices": ' + b"9" * 20_000 + b"}"),
    "list": Reply(body=b"[]"),
    "null": Reply(body=b"null"),
    "string": Reply(body=b'"hello"'),
    "nan": Reply(body=b"NaN"),
    "choices empty": choices([]),
    "choices null": choices(None),
    "choices string": choices("text"),
    "choices object": choices({"0": {}}),
    "choices numbers": choices([1, 2]),
    "choices null inside": choices([None]),
    "no message": choices([{}]),
    "message string": choices([{"message": "hello"}]),
    "content null": message(None),
    "content number": message(5),
    "content list": message([{"type": "text", "text": "hello"}]),
    "content object": message({"text": "hello"}),
    "content blank": message(" \n\t "),
    "packed unknown": Reply(body=b"x", headers={"Content-Encoding": "br"}),
    "packed badly": Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}),
    "bomb": Reply(body=gzip.compress(b" " * (LARGEST * 20)), headers={"Content-Encoding": "gzip"}),
    "large": Reply(body=b" " * (LARGEST + 10)),
    "prose": saying("I am a teapot."),
    "deep pairs": saying('{"pairs": ' + "[" * 900 + "]" * 900 + "}"),
    "surrogate": saying("\ud800"),
    "nul": saying("\0"),
}


@pytest.mark.parametrize("case", mostly_slow(ODD, 24))
def test_an_odd_answer_is_kept_and_never_asked_for_again(tmp_path: Path, case: str) -> None:
    with serving(lambda *_: ODD[case]) as server:
        failed, answers = ask(server.url, tmp_path / "a", count=7)
        assert not failed
        assert len(answers) == 7
        asked = len(server.bodies)
        failed, again = ask(server.url, tmp_path / "a", count=7)
        assert len(server.bodies) == asked
        assert (failed, len(again)) == ({}, 7)


@pytest.mark.parametrize(
    "usage",
    [None, "many", [], 5, *({"prompt_tokens": odd} for odd in ("x", -5, 1e300, True, 10**400, [], None))],
)
def test_odd_counts_of_tokens_count_as_none(tmp_path: Path, usage: Any) -> None:
    reply = choices([{"message": {"content": '{"pairs": []}'}, "finish_reason": ["?"]}], usage=usage)
    with serving(lambda *_: reply) as server:
        failed, answers = ask(server.url, tmp_path / "a")
        assert (failed, answers["0"].text, answers["0"].tokens_in) == ({}, '{"pairs": []}', 0)


def test_packed_answers_within_the_bounds_are_read(tmp_path: Path) -> None:
    reply = Reply(body=gzip.compress(saying('{"pairs": []}').body), headers={"Content-Encoding": "gzip"})
    with serving(lambda *_: reply) as server:
        assert ask(server.url, tmp_path / "a")[1]["0"].text == '{"pairs": []}'


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def dripping(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.1)


def dripping_head(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    for number in range(10_000):
        connection.sendall(f"X-{number}: 1\r\n".encode())
        time.sleep(0.1)


def endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def endless_error(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH\r\n" * 100)


SCRIPTS = (dripping, dripping_head, endless, endless_error, no_http)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda one: one.__name__)
def test_every_answer_ends(tmp_path: Path, script: Callable[[socket.socket], None]) -> None:
    start = time.monotonic()
    with raw(script) as url:
        failed, answers = ask(url, tmp_path / "a", timeout=1.0)
    assert time.monotonic() - start < 10
    assert ("0" in failed) != ("0" in answers)
    assert ("0" in answers) == (script is endless)


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with serving(lambda *_: saying("stolen")) as other:
        for status in (301, 302, 303, 307, 308):
            reply = Reply(status=status, headers={"Location": f"{other.url}?key={quote(KEY)}"})
            with serving(lambda *_, reply=reply: reply) as server:
                with pytest.raises(ValueError, match="sends requests on to http://127") as error:
                    ask(server.url, tmp_path / "a")
                assert KEY not in str(error.value)
                assert quote(KEY) not in str(error.value)
        assert other.bodies == []


def echoes(headers: str) -> list[str]:
    """Forms in which a server may tell what it was sent."""
    both = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    coded = base64.b64encode(KEY.encode()).decode()
    quoted, password = quote(KEY, safe=""), quote(PASSWORD, safe="")
    keys = [
        KEY,
        f"Bearer {KEY}",
        quote(KEY),
        quoted,
        json.dumps({"k": KEY}),
        coded,
        KEY.upper(),
        KEY.encode().hex(),
    ]
    parts = [KEY[:20], KEY[8:], f"{KEY[:7]}****{KEY[-4:]}"]
    return [*keys, *parts, PASSWORD, password, f"Basic {both}", f"http://user:{password}@127.0.0.1/", headers]


LEAKS = (
    *(KEY[:12], KEY[8:20], KEY[-12:], quote(KEY, safe="")[:24], KEY.encode().hex()[:24]),
    *(PASSWORD, quote(PASSWORD, safe="")),
)


@pytest.mark.parametrize("place", ["text", "error", "401", "body", "pairs"])
def test_no_secret_is_written_or_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """A server that echoes all that it was sent, in every form, wherever an answer has room for it."""
    root = write_coco(tmp_path)
    state: list[Server] = []

    def answer(_: int, body: Body) -> Reply:
        told = " | ".join(echoes(state[0].keys[-1]))
        if place == "text":
            return saying(told)
        if place == "pairs":
            pairs = honest(body)
            pairs[0]["question"] = f"What is {told}?"
            return saying(json.dumps({"pairs": [*pairs, {"kind": told, "question": told}]}))
        if place == "body":
            return Reply(body=json.dumps({"choices": [], "you": told}).encode())
        error = json.dumps({"error": {"message": told, "param": told}}).encode()
        return Reply(status=401 if place == "401" else 400, body=error, headers={"X-Key": KEY})

    with serving(answer) as server:
        state.append(server)
        address = server.url.replace("http://", f"http://user:{quote(PASSWORD, safe='')}@")
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        with suppress(ValueError):
            try:
                build_instructions(
                    "coco", root, "val2017", model="m", retries=0, extra={"user": KEY}, progress=False
                )
            except ValueError:
                print(traceback.format_exc())
                raise
        assert server.keys[0] == "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    printed = capsys.readouterr()
    written = [path.read_text(errors="replace") for path in root.rglob("*.json*")]
    for text in (printed.out, printed.err, *written):
        found = [leak for leak in LEAKS if leak.lower() in text.lower()]
        assert not found
        assert base64.b64encode(KEY.encode()).decode()[4:20] not in text
    assert STRUCK in "".join([printed.out, printed.err, *written])


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("sk-abcdefgh\n", "sk-abc defgh", "sk-äbcdefgh"):
        monkeypatch.setenv("OPENAI_API_KEY", wrong)
        with pytest.raises(ValueError, match="OPENAI_API_KEY has a space") as error:
            connect("m", 1, 0, 1.0, None)
        assert wrong.strip() not in str(error.value)


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://x/v1", "http://", "http://[::1", "http://x:y/v1"]
)
def test_what_is_no_address_is_told(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(ValueError, match="OPENAI_BASE_URL is no address"):
        connect("m", 1, 0, 1.0, None)


def test_an_address_with_a_query_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would ask `/v1?key=../chat/completions`, and every message names the address."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://x/v1?api-key=quite-secret-words")
    with pytest.raises(ValueError, match="OPENAI_BASE_URL has a query") as error:
        connect("m", 1, 0, 1.0, None)
    assert "quite-secret" not in str(error.value)


@given(st.binary(max_size=200))
def test_no_body_raises(content: bytes) -> None:
    text, _, wrong = said_in(content)
    assert bool(text) != bool(wrong)


KEYS = st.sampled_from(["choices", "message", "content"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)


@given(JSON)
def test_no_json_raises(value: Any) -> None:
    said_in(json.dumps({"choices": value}).encode())
    said_in(json.dumps({"choices": [value]}).encode())
    with suppress(ValueError):
        pairs_of(json.dumps(value))
