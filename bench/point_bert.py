"""Benchmark of Point-BERT: time to encode the objects of one scene, for several model sizes.

    python bench/point_bert.py --rois 32 --rounds 5

All regions of a scene in one batch, in inference mode; medians over rounds after one warm-up. Further columns are the
tokenizer's share (farthest point sampling and neighbours) and the process time of all threads, which other processes
affect little. Runs on CUDA too if available, there also under bfloat16 autocast.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from octavius.encoders.point_bert import PointBERT, unit_sphere

SIZES: dict[str, dict[str, Any]] = {
    "miniature (512 points, 48 x 16, 4 x 192)": {
        "groups": 48,
        "group_size": 16,
        "width": 192,
        "depth": 4,
        "heads": 3,
        "token_width": 96,
        "num_points": 512,
    },
    "Octavius (2,048 points, 512 x 32, 12 x 384)": {"num_points": 2048},
    "ULIP-2 (10,000 points, 512 x 32, 18 x 384)": {"depth": 18, "num_points": 10000},
}
"""Arguments of `PointBERT` by size."""


def median_times(run: Callable[[], Any], rounds: int, device: str) -> tuple[float, float]:
    """Median milliseconds of one call: wall-clock time, and process time of all threads."""
    taken = []
    for _ in range(rounds + 1):
        start, busy = time.perf_counter(), time.process_time()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - start, time.process_time() - busy))
    clock, processor = zip(*taken[1:], strict=True)
    return 1000 * statistics.median(clock), 1000 * statistics.median(processor)


@torch.inference_mode()
def measure(name: str, rois: int, rounds: int, device: str, half: bool) -> str:
    """Measures one size; returns its line of the table."""
    torch.manual_seed(0)
    model = PointBERT(**SIZES[name]).eval().to(device)
    points = unit_sphere(torch.rand(rois, model.num_points, 6, device=device))
    with torch.autocast(device, torch.bfloat16) if half else nullcontext():
        whole, busy = median_times(lambda: model(points), rounds, device)
        grouping, _ = median_times(lambda: model.grouped(points), rounds, device)
    kind = f"{device}, {'bfloat16' if half else 'float32'}"
    return f"{name:46} {kind:16} {whole:9.1f} {whole / rois:9.2f} {grouping:12.1f} {busy:13.1f}"


def main() -> None:
    """Prints one line per size and device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rois", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="sizes whose name holds this")
    options = parser.parse_args()
    print(f"{options.rois} regions, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'size':46} {'device':16} {'ms':>9} {'ms each':>9} {'of it tokens':>12} {'processor ms':>13}")
    kinds = [("cpu", False)] + ([("cuda", False), ("cuda", True)] if torch.cuda.is_available() else [])
    for name in SIZES:
        if options.only in name:
            for device, half in kinds:
                print(measure(name, options.rois, options.rounds, device, half), flush=True)


if __name__ == "__main__":
    main()
