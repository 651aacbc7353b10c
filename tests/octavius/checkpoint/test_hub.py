"""Folders are uploaded by huggingface_hub to a stand-in of the Hub on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from octavius.checkpoint.hub import check_login, push

TOKEN = "hf_right"
NAME = "user/my-model"


class Hub(ThreadingHTTPServer):
    """The routes that an upload of small files takes.

    Attributes:
        made: bodies of the requests that made a repository.
        files: content of the uploaded files by path.
        forbidden: whether nothing may be written.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.made, self.files, self.forbidden = list[Any](), dict[str, bytes](), False


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.reply({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/whoami-v2":
            self.reply({"name": "user", "type": "user"})
        else:
            self.reply({"id": NAME, "sha": "0" * 40, "private": True, "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.reply({"error": "Invalid credentials"}, 401)
        elif self.server.forbidden:
            self.reply({"error": "no"}, 403)
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self.reply({"url": f"http://127.0.0.1/{NAME}", "name": NAME})
        elif "/preupload/" in self.path:
            files = [
                {**one, "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]
            ]
            self.reply({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.reply(
                {"commitUrl": f"http://127.0.0.1/{NAME}/commit/1", "commitOid": "1" * 40, "success": True}
            )
        else:
            self.reply({})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        close_session()
        yield server
        server.shutdown()
    close_session()


def test_a_folder_is_uploaded_whole(tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "expert0").mkdir()
    (tmp_path / "README.md").write_text("---\ntags: [octavius]\n---\n# model\n")
    (tmp_path / "expert0" / "adapter_model.safetensors").write_bytes(bytes(range(256)))
    check_login(NAME)
    assert push(tmp_path, NAME).endswith(NAME)
    assert hub.made[0]["name"] == "my-model"
    assert hub.made[0].get("private") or hub.made[0].get("visibility") == "private"
    assert hub.files == {
        "README.md": (tmp_path / "README.md").read_bytes(),
        "expert0/adapter_model.safetensors": bytes(range(256)),
    }
    capsys.readouterr()  # bars


def test_what_the_hub_refuses_is_reported(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("# model\n")
    hub.forbidden = True
    with pytest.raises(ValueError, match=r"not pushed to user/my-model: this token may not write .* is in /"):
        push(tmp_path, NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match=r"nobody is logged in, or the token is wrong; run `hf auth login`"):
        check_login(NAME)


def test_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    close_session()
    with pytest.raises(ValueError, match=r"not pushed to user/my-model: the Hub cannot be used \(Connect"):
        check_login(NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(ValueError, match="the Hub is switched off by HF_HUB_OFFLINE"):
        check_login(NAME)
    close_session()


@pytest.mark.parametrize(
    "name", ["my-model", "a/b/c", "", "a b/c", "a/b\nc", "https://huggingface.co/a/b", "a/" + "b" * 97]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"should be the owner and .* such as user/model, .*; found '[^\n]*'$"
    ):
        check_login(name)
