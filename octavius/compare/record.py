"""Reads what the training and the test of a run left in its folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from octavius.callbacks.cost import COST
from octavius.callbacks.routing import entropy
from octavius.checkpoint_format.weights import read_checkpoint
from octavius.compare.table import Result
from octavius.files import read_json

SCORES, ROUTING = "metrics_test.json", "routing_test.csv"


@dataclass(frozen=True)
class Run:
    """One arm with one seed, in its own folder.

    Attributes:
        arm: name of the arm, as in `Comparison.arms`.
        seed: seed of weights, dropout, data order and mixture; all arms see the same data with the same seed.
        folder: folder of its checkpoint, logs and scores.
        arguments: arguments for `octavius fit`.
    """

    arm: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that `fit` writes."""
        return self.folder / "last.ckpt"


def cost(run: Run) -> dict[str, float] | None:
    """Time and memory of a run's training; None before it has finished."""
    file = _newest(run.folder, f"logs/**/{COST}")
    return None if file is None else read_json(file)


def scores(run: Run) -> dict[str, dict[str, float]] | None:
    """The scores of a run's last test, or None; non-standard protocols are prefixed to the name of the set."""
    file = _newest(run.folder, f"test/**/{SCORES}")
    if file is None:
        return None
    found = {}
    for name, row in read_json(file).items():
        protocol = row.pop("protocol", "standard")
        row.pop("intervals", None)
        found[name if protocol == "standard" else f"{protocol}: {name}"] = row
    return found


def result(run: Run) -> Result:
    """The table entry of a finished run."""
    found, took = scores(run), cost(run)
    assert found is not None
    assert took is not None
    trained = sum(tensor.numel() for tensor in read_checkpoint(run.checkpoint)["state_dict"].values())
    facts = {
        "trainable parameters": trained,
        "training time / min": took["seconds"] / 60,
        "memory / GiB": took["memory_gib"],
    }
    if "gpu_memory_gib" in took:
        facts["GPU memory / GiB"] = took["gpu_memory_gib"]
    file = _newest(run.folder, f"test/**/{ROUTING}")
    return Result(run.arm, run.seed, found, facts | ({} if file is None else routing(pd.read_csv(file))))


def routing(table: pd.DataFrame) -> dict[str, float]:
    """Summary of how a gate distributes answers over experts, from the table of `RoutingReport`.

    - idle experts: number of experts that no answer used.
    - entropy: of the mean weights, in nats; log E if all experts are used equally.
    - mutual information of task and expert, in nats: 0 if all tasks are routed alike, equal
      to the entropy if the task determines the expert. If there is one task only, its groups are the tasks.
    """
    table = table.assign(weight=table["mean_weight"] * table["instances"])
    index = "task" if table["task"].nunique() > 1 or table["group"].isna().all() else "group"
    by_task = table.pivot_table(index=index, columns="expert", values="weight", aggfunc="sum").to_numpy()
    sizes = by_task.sum(axis=1)
    within = float((sizes * entropy(by_task / sizes[:, None])).sum() / sizes.sum())
    total = float(entropy(by_task.sum(axis=0) / sizes.sum()))
    return {
        "idle experts": float(np.sum(table.groupby("expert")["usage"].max() == 0)),
        "routing entropy / nats": total,
        "mutual information of task and expert / nats": max(0.0, total - within),
    }


def _newest(folder: Path, pattern: str) -> Path | None:
    """The most recently written file, or None."""
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime, default=None)
