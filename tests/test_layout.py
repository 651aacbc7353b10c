"""Layout of the source tree: levels of imports, no cycles, file sizes, module docstrings."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OWN = ("octavius", "datamodules")

# A file imports only from lower levels, or from its own room. A new room of `octavius` gets a row here.
LEVELS = {
    "boxes": 0,
    "boxes3d": 0,
    "display": 0,
    "files": 0,
    "limits": 0,
    "processes": 0,
    "runs": 2,
    "suggestions": 0,
    "folders": 1,
    "options": 1,
    "presets": 1,
    "interrupts": 1,
    "instruction": 1,
    "metrics": 1,
    "checkpoint_format": 2,
    "errors": 3,
    "media": 2,
    "tasks": 2,
    "decoder": 3,
    "encoders": 3,
    "evaluation": 3,
    "distributed": 4,
    "lora_moe": 4,
    "configuration": 5,
    "published": 5,
    "model": 6,
    "gate_fitting": 7,
    "optimizer": 7,
    "training": 8,
    "pretraining": 8,
    "callbacks": 9,
    "llama_cpp": 9,
    "checkpoint": 10,
    "report": 10,
    "serve": 10,
    "plan": 10,
    "compare": 10,
    "interference": 10,
    "demo": 11,
    "cli": 12,
    "__main__": 13,
}
DATAMODULES_MAY_IMPORT = 2
MINIATURE = "datamodules.miniature"
"""It imports `datamodules`; nothing imports it but `SHORT_NAMES`."""
SHORT_NAMES = "octavius.cli.classes"
CONTRACT = "octavius.instruction.sample"
"""Plain dataclasses that its neighbours on level 1 speak too: a metric compares with golds."""


def name_of(path: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for package in OWN for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def own_imports(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """The modules of ours that a piece of code imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            deeper = [f"{source}.{alias.name}" for alias in node.names]
            yield from {
                name if name in modules else source for name in deeper if name.startswith((*OWN, "."))
            }
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(OWN))


def room(module: str) -> str:
    """The part of `octavius` that a module lies in; `datamodules` is one, and its miniature another."""
    package, _, rest = module.partition(".")
    first = rest.split(".")[0]
    if package == "octavius":
        return first
    return MINIATURE if first == "miniature" else package


def allowed(module: str, target: str) -> bool:
    """Whether the levels let a module import a target."""
    if target == "octavius" or room(module) == room(target):
        return True
    data = ("datamodules", MINIATURE)
    if target == CONTRACT and room(module) not in data:
        return LEVELS[room(module)] >= LEVELS["instruction"]
    if room(target) == MINIATURE:
        return module == SHORT_NAMES
    if room(target) == "datamodules":
        return room(module) in (MINIATURE, "cli")
    limit = DATAMODULES_MAY_IMPORT + 1 if room(module) in data else LEVELS[room(module)]
    return LEVELS[room(target)] < limit


def test_every_room_has_a_level() -> None:
    rooms = {room(name) for name in FILES if name not in OWN} - {"datamodules", MINIATURE}
    assert rooms <= set(LEVELS), f"give these rooms a level in {Path(__file__).name}: {rooms - set(LEVELS)}"


def test_every_folder_of_code_is_a_package() -> None:
    assert (
        sorted({path.parent for path in FILES.values() if not (path.parent / "__init__.py").is_file()}) == []
    )


def test_imports_run_downwards() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in TREES.items()
        for target in own_imports(tree, set(FILES))
        if target not in FILES or not allowed(name, target)
    ]
    assert wrong == []


def test_nothing_imports_in_a_circle() -> None:
    try:
        TopologicalSorter({name: own_imports(tree, set(FILES)) for name, tree in TREES.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_own_code_is_imported_at_the_top() -> None:
    hidden = [
        f"{name}.{node.name} imports {target}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for target in own_imports(node, set(FILES))
    ]
    assert hidden == []


def test_the_package_itself_imports_nothing() -> None:
    assert not [node for node in ast.walk(TREES["octavius"]) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("folder", [*OWN, "tests", "bench"])
def test_files_are_short_and_say_what_they_do(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 400, f"{path}: more than 400 lines, split it"
        assert ast.get_docstring(ast.parse(text)), f"{path}: the module has no docstring"


@pytest.mark.parametrize(
    ("module", "code", "fine"),
    [
        ("octavius.tasks.vqa", "from octavius.metrics.accuracy import Accuracy", True),
        ("octavius.tasks.vqa", "from octavius import __version__", True),
        ("octavius.tasks.vqa", "from octavius.tasks import base", True),
        ("octavius.metrics.captions.cider", "from octavius.instruction.prompt import Template", False),
        ("octavius.metrics.captions.cider", "from octavius.instruction.sample import References", True),
        ("octavius.boxes", "from octavius.instruction.sample import Sample", False),
        ("octavius.boxes", "import octavius.model", False),
        ("octavius.model", "from datamodules import image", False),
        ("octavius.cli.main", "import datamodules", True),
        ("octavius.cli.main", "from datamodules.miniature import files", False),
        ("octavius.cli.classes", "from datamodules.miniature import files", True),
        ("datamodules.images", "from datamodules.miniature import files", False),
        ("datamodules.miniature.data", "from datamodules.images import ImageInstructions", True),
        ("datamodules.miniature.data", "from octavius.model import Octavius", False),
        ("datamodules.image", "from octavius.tasks import TASKS", True),
        ("datamodules.image", "def f():\n    from octavius.decoder.decoder import Decoder", False),
    ],
)
def test_the_rules_tell_good_from_bad(module: str, code: str, fine: bool) -> None:
    targets = list(own_imports(ast.parse(code), set(FILES)))
    assert len(targets) == 1
    assert allowed(module, targets[0]) is fine
