"""What every test gets: fixed seeds, one thread, no network, and the folder of real data if there is one."""

import os

# Read by libraries at import time, hence before them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gc
import ipaddress
import random
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from datamodules.miniature.files import Sizes, build
from datamodules.miniature.rooms import files as rooms

# Under nohup, or as a background job of a shell, signals are ignored that tests send to what they start.
for _number, _handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("octavius", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("octavius")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real samples (COCO, VOC, scored captions); the test skips where there is none."""
    named = os.environ.get("OCTAVIUS_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real sample data not found at {folder}; set OCTAVIUS_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def miniature_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature on disk, seed 0: 20 training and 10 evaluation items of each kind; do not change it."""
    sizes = Sizes(20, 20, 20, 20, val=10, test=10, val_questions=10, test_questions=10)
    return build(tmp_path_factory.mktemp("data") / "miniature", sizes=sizes, progress=False)


@pytest.fixture(scope="session")
def few_rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's rooms on disk, seed 0: two to train, one of every other set; do not change them."""
    sizes = rooms.Sizes(train=2, val=1, test=1, unseen=1, things_train=1, things_test=1)
    return rooms.build(tmp_path_factory.mktemp("rooms") / "rooms", sizes=sizes, progress=False, processes=1)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers for each test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's sockets reach this machine only; anything else fails at once and says so."""
    monkeypatch.setattr(socket.socket, "connect", _guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", _guarded(socket.socket.connect_ex))
    look_up = socket.getaddrinfo

    def look_up_nearby(host: Any, *args: Any, **options: Any) -> Any:
        _refuse_far(host)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_nearby)


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_nearby(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_far(address[0])
        return connect(self, address)

    return connect_nearby


def _refuse_far(host: str | bytes | None) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", socket.gethostname()):
        return
    try:
        near = ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        near = False
    if not near:
        raise RuntimeError(f"a test tried to reach {name}: tests work without a network")


def pytest_collection_finish() -> None:
    """Takes what was imported out of the garbage collector's sight, which looks through it all again and again."""
    gc.collect()
    gc.freeze()
