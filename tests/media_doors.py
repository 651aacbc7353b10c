"""Reads damaged media files one after another in a process of its own, which errors alone may end.

    python -m tests.media_doors DOOR FOLDER COUNT SEED

Valid files of a kind are changed at random and passed to the function that reads them. The current file is written to
the folder first, so that it is there if the process crashes. Prints the largest memory and the longest time.
"""

import faulthandler
import io
import json
import pickle
import random
import resource
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datamodules.benchmarks.clouds.scan2inst_pickle import TENSORS
from datamodules.benchmarks.images import cifar10
from datamodules.benchmarks.pickles import load_pickle
from octavius.cli.reporting import USER_ERRORS
from octavius.instruction.sample import Media
from octavius.media.clouds import CloudLoader
from octavius.media.images import ImageLoader
from octavius.media.proposals import read_proposals
from octavius.media.rois import StoredRoiLoader
from tests.datamodules.benchmarks import cifar_files

LARGEST = 1_000_000
"""Bytes of a file."""

STUCK = 120
"""Seconds after which a reader is taken to hang: its stack is printed, and the process ends."""

NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 63) - 1,
)
WORDS = (
    b"0",
    b"-1",
    b"99999999",
    b"1e999",
    b"nan",
    b"NaN",
    b"9" * 400,
    b"[" * 3000,
    b"true",
    b'"x"',
    b"\n",
    b"(" * 900,
)


def pictures() -> dict[str, bytes]:
    """Pictures of every format and many modes."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[274], exif[271] = 6, "made by hand"
    modes = {
        mode: Image.fromarray(noise).convert(mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK")
    }
    found = dict[str, bytes]()

    def save(name: str, kind: str, image: Image.Image, **options: Any) -> None:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        found[name] = stream.getvalue()

    for mode in ("RGB", "L", "CMYK"):
        save(f"{mode}.jpg", "JPEG", modes[mode], exif=exif)
    save("progressive.jpg", "JPEG", modes["RGB"], progressive=True, icc_profile=bytes(200))
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        save(f"{mode}.png", "PNG", modes[mode], exif=exif, **({"transparency": 3} if mode in "LP" else {}))
    for mode in ("RGB", "RGBA"):
        save(f"{mode}.webp", "WEBP", modes[mode], exif=exif, lossless=mode == "RGBA")
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        save(f"{compression}.tif", "TIFF", modes["RGB"], compression=compression, exif=exif)
    save("16.tif", "TIFF", Image.fromarray(noise[..., 0].astype(np.uint16) * 257))
    save("float.tif", "TIFF", Image.fromarray(noise[..., 0].astype(np.float32) / 255))
    save("a.bmp", "BMP", modes["RGB"])
    save("a.ppm", "PPM", modes["RGB"])
    for kind, name in (
        ("GIF", "a.gif"),
        ("PNG", "animated.png"),
        ("WEBP", "animated.webp"),
        ("TIFF", "pages.tif"),
    ):
        save(name, kind, modes["RGB"], save_all=True, append_images=[modes["RGB"].rotate(180)])
    return found


def clouds() -> dict[str, bytes]:
    """Clouds in PLY and numpy's arrays."""
    rows = [(x, y, z, x, 2 * y, 200) for x in range(4) for y in range(3) for z in range(2)]
    found = dict[str, bytes]()
    for form, order in (("ascii", ""), ("binary_little_endian", "<"), ("binary_big_endian", ">")):
        header = (
            f"ply\nformat {form} 1.0\ncomment none\nelement face 2\nproperty list uchar int vertex_indices\n"
            f"element vertex {len(rows)}\nproperty float x\nproperty double y\nproperty short z\n"
            "property uchar red\nproperty ushort green\nproperty uchar blue\nend_header\n"
        ).encode()
        if order:
            body = struct.pack(f"{order}B3iB2i", 3, 0, 1, 2, 2, 1, 0)
            body += b"".join(struct.pack(f"{order}fdhBHB", *row) for row in rows)
        else:
            body = b"3 0 1 2\n2 1 0\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
        found[f"{form}.ply"] = header + body
    return found | arrays(np.array(rows, "f4"), np.array(rows, ">f8")[:, :3], np.array(rows))


def arrays(*values: np.ndarray) -> dict[str, bytes]:
    """Files of arrays."""
    found = dict[str, bytes]()
    for number, value in enumerate(values):
        stream = io.BytesIO()
        np.save(stream, value)
        found[f"{number}.npy"] = stream.getvalue()
    return found


def boxes() -> dict[str, bytes]:
    """Files of proposals."""
    some = np.array([[0, 0, 0, 1, 1, 1], [2, 1, 0, 1, 2, 1]], "f8")
    found = arrays(some, np.c_[some, [0.5, 0.25]])
    for name, save in (("plain.npz", np.savez), ("packed.npz", np.savez_compressed)):
        stream = io.BytesIO()
        save(stream, boxes=some, scores=np.array([0.5, 0.25]))
        found[name] = stream.getvalue()
    found["a.json"] = json.dumps({"boxes": some.tolist(), "scores": [0.5, 0.25]}).encode()
    return found


def plain_pickles() -> dict[str, bytes]:
    """Pickles of all protocols, and CIFAR-10's own."""
    rows = [bytes(range(256)) * 12] * 2
    content = {
        "data": np.arange(6144, dtype="u1").reshape(2, 3072),
        b"labels": [1, 2],
        "more": ("a", 1.5, None),
    }
    found = {f"{protocol}.pickle": pickle.dumps(content, protocol) for protocol in range(6)}
    return found | {"cifar.pickle": cifar_files.batch(rows, [1, 2])}


def tensors() -> dict[str, bytes]:
    """Pickles of tensors of all protocols."""
    content = {"a": [torch.arange(12.0).reshape(3, 4)[1:], torch.zeros(2, dtype=torch.float16)]}
    return {f"{protocol}.pickle": pickle.dumps(content, protocol) for protocol in range(6)}


def read_batch(file: Path) -> object:
    """CIFAR-10's reader over a batch."""
    folder = file.parent / "cifar"
    folder.mkdir(exist_ok=True)
    (folder / "batches.meta").write_bytes(cifar_files.meta(2))
    (folder / "test_batch").write_bytes(file.read_bytes())
    return cifar10.read(folder, "test", "skip")


def read_rois(file: Path) -> object:
    """The loader of stored features, over a feature and then over the corners of its box."""
    good = {"ins_pc_feat": arrays(np.ones(6, "f4"))["0.npy"], "bbox": arrays(np.eye(8, 3))["0.npy"]}
    for damaged in good:
        for kind, content in good.items():
            place = file.parent / "set" / kind / "scene" / "1-chair.npy"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes() if kind == damaged else content)
        with suppress(USER_ERRORS):
            LOAD_ROIS(Media(path=file.parent / "set" / "ins_pc_feat" / "scene"))
    return None


LOAD_IMAGE, LOAD_CLOUD, LOAD_ROIS = ImageLoader(8, (0, 0, 0), (1, 1, 1)), CloudLoader(), StoredRoiLoader(6)

DOORS: dict[str, tuple[Callable[[], dict[str, bytes]], Callable[[Path], object]]] = {
    "pictures": (pictures, lambda file: LOAD_IMAGE(Media(path=file))),
    "clouds": (clouds, lambda file: LOAD_CLOUD(Media(path=file))),
    "boxes": (boxes, read_proposals),
    "features": (lambda: arrays(np.ones(6, "f4"), np.ones((8, 3))), read_rois),
    "pickles": (plain_pickles, load_pickle),
    "cifar": (plain_pickles, read_batch),
    "tensors": (tensors, lambda file: load_pickle(file, TENSORS)),
}
"""For each kind of file, good ones and what reads them."""


def changed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A file with some damage."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
                data[place : place + width] = number.to_bytes(width, rng.choice(("little", "big")))
            case 2:
                del data[place:]
            case 3:
                del data[place : place + rng.choice((1, 4, 40))]
            case 4:
                data[place:place] = rng.choice(WORDS)
            case 5:
                start = rng.randrange(len(other) + 1)
                data[place:place] = other[start : start + rng.choice((4, 30, 300))]
            case 6:
                part = data[place : place + rng.choice((1, 9, 90))]
                data[place:place] = part * rng.choice((2, 20, 2000))
            case 7:
                digits = [spot for spot, value in enumerate(data[:2000]) if 48 <= value < 58]
                if digits:
                    spot = rng.choice(digits)
                    data[spot : spot + 1] = rng.choice(WORDS)
    return bytes(data[:LARGEST])


def main(door: str, folder: Path, count: int, seed: int) -> None:
    """Reads so many damaged files."""
    good, read = DOORS[door]
    files, rng, longest = good(), random.Random(seed), 0.0
    names = sorted(files)
    for name in names:  # so that it is damage alone that is refused
        (folder / name).write_bytes(files[name])
        read(folder / name)
    for _ in range(count):
        name, other = rng.choice(names), rng.choice(names)
        file = folder / f"damaged{Path(name).suffix}"
        file.write_bytes(changed(files[name], files[other], rng))
        faulthandler.dump_traceback_later(STUCK, exit=True)
        start = time.monotonic()
        with suppress(USER_ERRORS):
            read(file)
        longest = max(longest, time.monotonic() - start)
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"memory": peak_memory(), "longest": longest}))


def peak_memory() -> int:
    """Peak resident memory of this program, in bytes; `ru_maxrss` begins with that of the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
