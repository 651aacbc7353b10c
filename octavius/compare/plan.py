"""The set-up of a comparison, from the command line or a plan file: arms, seeds and differences."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavius.configuration.text import read_config
from octavius.limits import Range
from octavius.options import OptionParser
from octavius.presets import find_config
from octavius.suggestions import nearest

SEEDS, JOBS = Range(1, 1000, integer=True), Range(1, 256, integer=True)

KEYS = ("config", "arms", "seeds", "baseline", "differences", "curves", "out", "options")
"""Keys of a plan file; all but `differences`, `curves` and `options` are options of the command too."""


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        arms: name to its configurations, later ones overriding earlier ones.
        seeds: number of seeds (0, 1, ...) per arm.
        differences: pairs of arms; the second is subtracted from the first, seed by seed.
        out: folder of runs and tables.
        options: arguments added to every `octavius fit`, after those of the arm.
        curves: label of an x axis to the curves over it, each by its name: x to arm.
        jobs: number of parallel runs.
        name: file name of the tables.
        print_commands: print the commands for a scheduler instead of running anything.
    """

    arms: dict[str, tuple[str, ...]]
    seeds: int
    differences: tuple[tuple[str, str], ...]
    out: Path
    options: tuple[str, ...]
    curves: Mapping[str, Mapping[str, Mapping[float, str]]] = field(default_factory=dict)
    jobs: int = 1
    name: str = "compare"
    print_commands: bool = False

    @property
    def columns(self) -> list[str]:
        """The arms in the order of the tables: first the baseline, if all differences share one."""
        baselines = {minus for _, minus in self.differences}
        return sorted(self.arms, key=lambda arm: len(baselines) != 1 or arm not in baselines)


def read_plan(argv: Sequence[str]) -> Comparison:
    """Parses the arguments; the command line overrides the file of `--plan`.

    Raises:
        ValueError: names of arms clash, the file has an unknown key, or there are no seeds.
    """
    given, passed_on = parser().parse_known_args(list(argv))
    asked = _read_file(given.plan) if given.plan else {}
    asked |= {key: value for key, value in vars(given).items() if value is not None and key != "arms"}
    if given.plan:
        arms = _chosen(asked["arms"], given.arms)
    elif given.arms and given.config:
        arms = name_arms(given.config, given.arms)
    else:
        raise ValueError(
            "nothing to compare: name --config and --arms, or --plan with a file such as comparisons/table_3.yaml"
        )
    arms = {name: (*(asked.get("config", []) if given.plan else []), *own) for name, own in arms.items()}
    _check(arms)
    if (seeds := asked.get("seeds", 3)) < 1:
        raise ValueError(f"--seeds {seeds}: a comparison needs at least one seed, and two to have a spread")
    if (jobs := asked.get("jobs", 1)) < 1:
        raise ValueError(f"--jobs {jobs}: expected at least one run at a time")
    SEEDS.check(seeds=seeds)
    JOBS.check(jobs=jobs)
    baseline = asked.get("baseline", next(iter(arms)) if given.plan else Path(given.arms[0]).stem)
    pairs = None if given.baseline else asked.get("differences")
    own = [
        argument
        for key, value in asked.get("options", {}).items()
        for argument in (f"--{key}", _written(value))
    ]
    return Comparison(
        arms,
        seeds,
        _differences(arms, baseline, pairs),
        Path(asked.get("out", "runs/compare")),
        (*own, *passed_on),
        _curves_of_arms(asked.get("curves", {}), arms),
        jobs,
        Path(given.plan).stem if given.plan else "compare",
        given.print_commands,
    )


def _curves_of_arms(
    curves: Mapping[str, Mapping[str, Mapping[str, str]]], arms: Mapping[str, object]
) -> dict[str, dict[str, dict[float, str]]]:
    """The points of the curves whose arms are run, without curves and axes that have none."""
    points_of = {
        label: {
            name: {float(x): arm for x, arm in points.items() if arm in arms}
            for name, points in named.items()
        }
        for label, named in curves.items()
    }
    kept = {
        label: {name: points for name, points in named.items() if points}
        for label, named in points_of.items()
    }
    return {label: named for label, named in kept.items() if named}


def _written(value: Any) -> str:
    """A value as a command-line argument; as JSON, which is valid YAML, unlike Python's `None`."""
    return value if isinstance(value, str) else json.dumps(value)


def parser() -> OptionParser:
    """The argument parser of the command; unknown options are passed on to every fit."""
    option_parser = OptionParser(
        prog="octavius compare",
        description="Train the same set-up in several variants with several seeds, test each, and write one "
        "table with mean, spread and paired differences. Runs that are done are not repeated.",
        epilog="Options that are not named above go to every fit, for instance --trainer.max_steps 1000.",
    )
    option_parser.add_argument("--config", action="append", help="as for fit; it is the first arm")
    option_parser.add_argument(
        "--arms",
        nargs="+",
        help="configurations that override it, one for each arm; with --plan, names of arms to run",
    )
    option_parser.add_argument("--plan", help=f"file with these settings instead: {', '.join(KEYS)}")
    option_parser.add_argument("--seeds", type=int, help="seeds 0, 1, .. of every arm (default: 3)")
    option_parser.add_argument(
        "--baseline", help="arm that the others are compared with (default: the first of --arms)"
    )
    option_parser.add_argument("--out", help="folder of runs and tables (default: runs/compare)")
    option_parser.add_argument(
        "--jobs", type=int, help="number of parallel runs, which share the cores (default: 1)"
    )
    option_parser.add_argument(
        "--print_commands", action="store_true", help="only print each run's commands, for a scheduler"
    )
    return option_parser


def name_arms(configs: Sequence[str], overlays: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Configurations by arm, named after the overlay; the first arm is the configuration without an overlay."""
    arms = {Path(configs[-1]).stem: tuple(configs)}
    for overlay in overlays:
        name = Path(overlay).stem
        if name in arms:
            raise ValueError(f"two arms would be called {name!r}; rename one of the configuration files")
        arms[name] = (*configs, overlay)
    return arms


def _read_file(name: str) -> dict[str, Any]:
    """Reads a plan file.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type or names an unknown arm.
    """
    path = find_config(name)
    content = read_config(path)
    if unknown := [key for key in content if key not in KEYS]:
        raise ValueError(
            f"{path} has the unknown key {unknown[0]!r}{nearest(unknown[0], KEYS)}"
            f"; expected {', '.join(KEYS)}"
        )
    arms = content.get("arms")
    if not isinstance(arms, dict) or not arms or not all(_are_texts(own) for own in arms.values()):
        raise ValueError(
            f"{path} should name its arms, each with the configurations of its runs: "
            "`arms: {one_lora: [2d.yaml, ablations/one_lora.yaml], ...}`"
        )
    for key, wanted, right in (
        ("config", "a list of configurations", _are_texts),
        ("differences", "pairs of arms, such as [[routed, one_lora]]", _are_pairs),
        ("curves", 'axes with their curves, such as {tasks: {routed: {"2": routed_2}}}', _are_curves),
        ("options", "options of fit with their values", lambda value: isinstance(value, dict)),
        ("baseline", "the name of an arm", lambda value: isinstance(value, str)),
        ("out", "a folder", lambda value: isinstance(value, str)),
        ("seeds", "a whole number", lambda value: type(value) is int),
    ):
        if key in content and not right(content[key]):
            raise ValueError(f"{path}: {key} should be {wanted}, found {content[key]!r:.60}")
    drawn = [
        arm
        for named in content.get("curves", {}).values()
        for points in named.values()
        for arm in points.values()
    ]
    for arm in (*(arm for pair in content.get("differences", []) for arm in pair), *drawn):
        if arm not in arms:
            raise ValueError(
                f"{path} has no arm {arm!r} to make a difference or a curve of{nearest(str(arm), arms)}; its arms "
                f"are {', '.join(arms)}"
            )
    return content


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_curves(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(named, dict)
        and named
        and all(
            isinstance(points, dict)
            and points
            and all(_is_number(x) and isinstance(arm, str) for x, arm in points.items())
            for points in named.values()
        )
        for named in value.values()
    )


def _is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(_are_texts(pair) and len(pair) == 2 for pair in value)


def _chosen(arms: Mapping[str, Sequence[str]], names: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """The arms of a plan file, or only the named ones."""
    for name in names or ():
        if name not in arms:
            raise ValueError(
                f"the plan has no arm {name!r}{nearest(name, arms)}; its arms are {', '.join(arms)}"
            )
    return {name: tuple(arms[name]) for name in names or arms}


def _check(arms: Mapping[str, Sequence[str]]) -> None:
    """Checks that names of arms can be folders, and that their configurations exist."""
    for name, files in arms.items():
        if not files or "/" in name or name in ("", ".", ".."):
            raise ValueError(
                f"the arm {name!r} needs a name that can be a folder, and at least one configuration"
            )
        for file in files:
            find_config(file)


def _differences(
    arms: Mapping[str, object], baseline: str, pairs: Sequence[Sequence[str]] | None
) -> tuple[tuple[str, str], ...]:
    """The requested pairs of which both arms are run; by default all arms against the baseline."""
    if pairs is not None:
        return tuple((one, other) for one, other in pairs if one in arms and other in arms)
    if baseline not in arms:
        raise ValueError(
            f"there is no arm {baseline!r} to be the baseline{nearest(baseline, arms)}"
            f"; arms are {', '.join(arms)}"
        )
    return tuple((arm, baseline) for arm in arms if arm != baseline)
