"""Benchmark of 3D detectors: time of a forward and backward pass over one scene, on CPU and GPU.

    python bench/detector.py --rounds 3

The scene is a synthetic room of 20 000 points in voxels of 4 cm with ten boxes; losses and target assignment are
included. Detectors are interleaved, so that other load on the machine affects all alike; ratios, to the first
detector, are medians over rounds.
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch
from torch import Tensor

from octavius.encoders.detector.detector import Design, Detector, HeadName

CLASSES = tuple(f"class {number}" for number in range(18))
MINIATURE = Design(
    0.04, (32, 64, 64), (1, 1, 1), 32, pool=False, channels=64, geometry=True, skip=0, grown_from=2
)
PUBLISHED = Design(0.04, pool=False)
DETECTORS: dict[str, tuple[HeadName, Design]] = {
    "TR3D, miniature": ("tr3d", MINIATURE),
    "TR3D, miniature, grown": ("tr3d", replace(MINIATURE, grown_from=0)),
    "FCAF3D, miniature": ("fcaf3d", replace(MINIATURE, keep=4000)),
    "TR3D, published": ("tr3d", PUBLISHED),
    "FCAF3D, published": ("fcaf3d", PUBLISHED),
}
"""Detectors by name. Published sizes run without pooling here: with 4 cm voxels, finest locations are 16 cm apart."""


def room(count: int) -> tuple[Tensor, Tensor]:
    """Makes a room of 6 x 5 m: points (count, 6), half on floor and walls, half on ten boxes; and boxes (10, 6)."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.rand(10, 3, generator=rng) * torch.tensor([5.0, 4.0, 0.6]) + torch.tensor([0.5, 0.5, 0.3])
    boxes = torch.cat([centres, torch.rand(10, 3, generator=rng) + 0.4], dim=1)
    everything = torch.cat([torch.tensor([[3.0, 2.5, 1.3, 6.0, 5.0, 2.6]]).expand(10, 6), boxes])
    owner, side = (torch.randint(0, top, (count,), generator=rng) for top in (20, 3))
    unit = torch.rand(count, 3, generator=rng) - 0.5
    rows = torch.arange(count)
    # Moves each point of a unit cube to one of its faces.
    unit[rows, side] = unit[rows, side].sign() / 2
    points = unit * everything[owner, 3:] + everything[owner, :3]
    return torch.cat([points, torch.rand(count, 3, generator=rng)], dim=1), boxes


def passes(model: Detector, points: Tensor, boxes: Tensor) -> tuple[float, float]:
    """Seconds of one forward pass with losses, and of the backward pass."""
    labels, batch = torch.arange(len(boxes), device=points.device), torch.zeros_like(points[:, 0]).long()
    start = now(points)
    total = torch.stack([*model.losses(points, batch, [(boxes, labels)]).values()]).sum()
    middle = now(points)
    total.backward()
    end = now(points)
    model.zero_grad()
    return middle - start, end - middle


def now(tensor: Tensor) -> float:
    """Time in seconds after waiting for the device."""
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(device: str, points: Tensor, boxes: Tensor, rounds: int) -> None:
    """Prints one line per detector."""
    torch.manual_seed(0)
    halves = [0, 1] * 9
    made = {
        name: Detector(CLASSES, head, design, halves).to(device) for name, (head, design) in DETECTORS.items()
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for index in range(rounds + 1):
        for name, model in made.items():
            times = passes(model, points.to(device), boxes.to(device))
            if index:  # the first round warms up
                taken[name].append(times)
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    print(f"{device}{threads}: {len(points)} points, voxels of 4 cm, batch of 1, {rounds} rounds")
    first = [sum(times) for times in next(iter(taken.values()))]
    for name, rows in taken.items():
        forward, backward = (statistics.median(part) for part in zip(*rows, strict=True))
        ratio = statistics.median(sum(times) / other for times, other in zip(rows, first, strict=True))
        size = sum(part.numel() for part in made[name].parameters()) / 1e6
        print(f"{name:24}{size:7.2f} M  forward {forward:6.3f} s  backward {backward:6.3f} s  x {ratio:.2f}")


def main() -> None:
    """Measures on the CPU, then on a GPU if there is one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=20_000)
    options = parser.parse_args()
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        measure(device, *room(options.points), options.rounds)


if __name__ == "__main__":
    main()
