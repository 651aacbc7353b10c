"""Plans of comparisons: names of arms, the order of columns, and options of a plan file."""

from pathlib import Path

import pytest
import yaml

from octavius.compare.plan import Comparison, name_arms, read_plan


def test_arms_are_named_after_their_overlays() -> None:
    arms = name_arms(["2d.yaml", "own/base.yaml"], ["ablations/one_lora.yaml"])
    assert arms == {
        "base": ("2d.yaml", "own/base.yaml"),
        "one_lora": ("2d.yaml", "own/base.yaml", "ablations/one_lora.yaml"),
    }
    with pytest.raises(ValueError, match="two arms would be called 'base'"):
        name_arms(["a/base.yaml"], ["b/base.yaml"])


def test_the_baseline_is_the_first_column() -> None:
    arms: dict[str, tuple[str, ...]] = {"a": (), "b": (), "c": ()}
    assert Comparison(arms, 1, (("a", "b"), ("c", "b")), Path(), ()).columns == ["b", "a", "c"]
    assert Comparison(arms, 1, (("a", "b"), ("b", "c")), Path(), ()).columns == ["a", "b", "c"]


def test_a_file_and_the_command_line_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("base", "one", "two"):
        Path(f"{name}.yaml").write_text("{}")
    options = {"trainer.max_steps": 5, "model.init_args.lora": None}
    content = {"config": ["base.yaml"], "arms": {"a": ["one.yaml"], "b": ["two.yaml"]}, "options": options}
    Path("plan.yaml").write_text(yaml.safe_dump(content | {"seeds": 2}))
    plan = read_plan(["--plan", "plan.yaml", "--seeds", "4", "--trainer.precision", "64"])
    assert plan.arms == {"a": ("base.yaml", "one.yaml"), "b": ("base.yaml", "two.yaml")}
    assert (plan.seeds, plan.jobs, plan.name, plan.differences) == (4, 1, "plan", (("b", "a"),))
    assert sorted(zip(plan.options[::2], plan.options[1::2], strict=True)) == [
        ("--model.init_args.lora", "null"),
        ("--trainer.max_steps", "5"),
        ("--trainer.precision", "64"),
    ]
    assert read_plan(["--plan", "plan.yaml", "--arms", "b"]).arms == {"b": ("base.yaml", "two.yaml")}


def test_curves_name_arms_at_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text("{}")

    def read(curves: object, *arguments: str) -> Comparison:
        content = {"arms": {"a": ["one.yaml"], "b": ["two.yaml"]}, "curves": curves}
        Path("plan.yaml").write_text(yaml.safe_dump(content))
        return read_plan(["--plan", "plan.yaml", *arguments])

    curves = {"tasks": {"routed": {"1": "a", "2.5": "b"}}}
    assert read(curves).curves == {"tasks": {"routed": {1.0: "a", 2.5: "b"}}}
    assert read(curves, "--arms", "b").curves == {"tasks": {"routed": {2.5: "b"}}}
    curves = {"tasks": {"routed": {"1": "a"}}, "steps": {"one": {"1": "b"}, "two": {"1": "a"}}}
    assert read(curves, "--arms", "b").curves == {"steps": {"one": {1.0: "b"}}}
    with pytest.raises(ValueError, match="no arm 'c' to make a difference or a curve of; its arms are a, b"):
        read({"tasks": {"routed": {"1": "c"}}})
    for bad in ({"tasks": {"routed": {"many": "a"}}}, {"tasks": {"routed": "a"}}, ["tasks"], {"tasks": {}}):
        with pytest.raises(ValueError, match="curves should be axes with their curves, such as"):
            read(bad)
