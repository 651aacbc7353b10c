"""The project's files agree with each other."""

import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import octavius

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def setup() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def project_name(requirement: str) -> str:
    """A requirement's project, spelled the way package indexes compare them."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, f"not a requirement: {requirement!r}"
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def requirements(setup: ConfigParser) -> list[str]:
    """Every requirement of setup.cfg: the plain ones, then those of the extras, each once."""
    extras = [line for text in setup["options.extras_require"].values() for line in lines(text)]
    return list(dict.fromkeys(lines(setup["options"]["install_requires"]) + extras))


def pins() -> dict[str, str]:
    pairs = [line.split("==") for line in lines((ROOT / "constraints.txt").read_text())]
    return {project_name(name): version for name, version in pairs}


def test_conda_and_pip_ask_for_the_same(setup: ConfigParser) -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *from_conda, from_pip = environment["dependencies"]
    assert from_conda == [f"python{setup['options']['python_requires']}", "pip"]
    asked = [line for line in from_pip["pip"] if not line.startswith("--")]
    assert sorted(asked) == sorted(requirements(setup))


@pytest.mark.parametrize("extra", ["gguf", "instructions", "serve", "demo"])
def test_the_extra_dev_holds_the_others(setup: ConfigParser, extra: str) -> None:
    extras = setup["options.extras_require"]
    assert set(lines(extras[extra])) <= set(lines(extras["dev"]))


def test_every_direct_dependency_is_pinned_inside_its_bounds(setup: ConfigParser) -> None:
    for requirement in requirements(setup):
        name, lowest = project_name(requirement), requirement.split(">=")[1]
        assert name in pins(), f"constraints.txt does not pin {name}"
        assert _numbers(pins()[name]) >= _numbers(lowest), f"{name} is pinned below {lowest}"


def test_pins_are_plain_and_leave_the_accelerator_to_torch() -> None:
    assert [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))] == []
    assert [pin for pin in pins().values() if not re.fullmatch(r"[\d.]+(post\d+)?", pin)] == []


def test_every_import_is_a_declared_dependency(setup: ConfigParser) -> None:
    declared = {project_name(line) for line in lines(setup["options"]["install_requires"])}
    source = "\n".join(
        p.read_text() for room in ("octavius", "datamodules") for p in (ROOT / room).rglob("*.py")
    )
    plain = re.findall(r"^import (\w+)", source, flags=re.MULTILINE)
    imported = {*plain, *re.findall(r"^from (\w+)[\w.]* import ", source, flags=re.MULTILINE)}
    homes = packages_distributions()
    foreign = imported - {"octavius", "datamodules"} - sys.stdlib_module_names
    undeclared = [
        name
        for name in foreign
        if declared.isdisjoint(project_name(home) for home in homes.get(name, [name]))
    ]
    assert undeclared == [], "add these to setup.cfg, environment.yml and CONTRIBUTING.md"


def test_setup_lists_every_folder_of_code(setup: ConfigParser) -> None:
    listed = set(lines(setup["options"]["packages"])) - set(lines_before_equals(setup))
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("octavius", "datamodules")
        for path in (ROOT / package).rglob("*.py")
    }
    assert found == listed, "setup.cfg must list each folder of code: one that it forgets is not installed"


def lines_before_equals(setup: ConfigParser) -> list[str]:
    return [line.split(" = ")[0] for line in lines(setup["options"]["package_dir"])]


def test_contributing_says_why_for_each_dependency(setup: ConfigParser) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(text.splitlines()) <= 80
    explained = {
        project_name(name)
        for row in re.findall(r"^- (`.*?`):", text, re.MULTILINE)
        for name in row.split("`")[1::2]
    }
    assert {project_name(line) for line in requirements(setup)} <= explained


def test_the_changelog_opens_with_this_version() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert versions[0] == octavius.__version__


def test_pyproject_holds_only_the_build_and_ruff() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(content) == {"build-system", "tool"}
    assert set(content["tool"]) == {"ruff"}


@pytest.mark.parametrize("torch", ["", "cpu"])
def test_the_commands_of_make_are_those_of_a_shell(torch: str) -> None:
    dry = [
        "make",
        "-C",
        str(ROOT),
        "-n",
        "-B",
        "--no-print-directory",
        f"TORCH={torch}",
        "install",
        "test",
        "fit",
    ]
    commands = subprocess.run(dry, capture_output=True, text=True, check=True).stdout
    assert commands.count("pip install --editable") == 2
    assert ("--index-url" in commands) == bool(torch)
    subprocess.run(["sh", "-n"], input=commands, text=True, check=True)


def test_make_alone_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert phony
    told = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    assert [name for name in phony[1].split() if f"make {name} " not in told] == []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
