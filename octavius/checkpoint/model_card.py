"""The model card of an exported folder, the `README.md` that the Hugging Face Hub shows.

It says what the folder holds, how to load it, what it was trained on, which experts it uses, and how it scored if
this checkpoint was tested on this machine.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from octavius.checkpoint.opened import OpenCheckpoint
from octavius.configuration.text import parse_config
from octavius.display import visible
from octavius.files import read_json, write_text
from octavius.llama_cpp.gate import FOLDER, SETTINGS
from octavius.presets import find_checkpoint
from octavius.runs import facts, history
from octavius.runs.listing import found_in, read

CARD, ROUTING = "README.md", "routing_test.png"

LOAD = {
    "hf": """from transformers import {model}, {text}

model = {model}.from_pretrained("{folder}")
{variable} = {text}.from_pretrained("{folder}")""",
    "peft": """from peft import PeftModel
from transformers import {model}

base = {model}.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{folder}")""",
    "experts": """from peft import PeftModel
from transformers import {model}

base = {model}.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{folder}", subfolder="expert0", adapter_name="expert0")
model.load_adapter("{folder}", subfolder="expert1", adapter_name="expert1")""",
}
"""Python code that loads each format; names of folder, base model and classes are filled in."""

PROJECTED = (
    "\n\nThe projectors of images and point clouds are in `projectors.safetensors`, which `octavius predict` loads; "
    "Hugging Face libraries load the language model alone."
)


def write_card(
    folder: Path,
    manifest: Mapping[str, Any],
    checkpoint: OpenCheckpoint,
    name: str,
    runs: Path = Path("runs"),
) -> None:
    """Writes the card, and beside it the routing figure of the last test of the checkpoint.

    Args:
        folder: folder to write to.
        manifest: manifest of the folder, see `octavius.checkpoint.export`.
        checkpoint: the exported checkpoint.
        name: name of the folder or repository in the card.
        runs: folder of log folders, searched for tests of the checkpoint.
    """
    base, format = str(manifest["base"]), str(manifest["format"])
    tested = last_test(checkpoint.path, runs)
    sections = parse_config(checkpoint.configuration.text, checkpoint.configuration.source)
    card = ModelCardData(
        base_model=None if is_local(base) else base,
        library_name={"hf": "transformers", "gguf": "llama.cpp"}.get(format, "peft"),
        tags=["octavius", "lora", "mixture-of-experts", "multimodal"],
    )
    parts = [
        f"---\n{card.to_yaml().strip()}\n---",
        f"# {name}",
        f"This folder holds {manifest['what']}. Octavius {manifest['versions']['octavius']} exported it from a "
        f"checkpoint that tuned `{base}` with routed LoRA experts (LoRA-MoE).",
        f"## Use\n\n{served(folder) if format == 'gguf' else loaded(manifest, name)}",
        f"## Training data\n\n{table(['benchmark', 'split', 'weight'], training_sets(sections))}",
        f"## Routing\n\n{routing(manifest)}",
    ]
    if tested is None:
        parts.append("## Scores\n\nThe checkpoint was not tested before it was exported.")
    else:
        if (tested / ROUTING).is_file():
            shutil.copyfile(tested / ROUTING, folder / ROUTING)
            parts.append(f"![Mean weights of the experts by task]({ROUTING})")
        parts.append(
            "## Scores\n\n"
            + table(
                ["set", "metric", "protocol", "score", "95 % interval", "chance", "samples"], scores(tested)
            )
            + "\n\nThe checkpoint with its gate was tested, which may use other experts for other questions."
        )
    parts.append(
        "## Licence\n\nThe licences of the base model and of the training data apply; nothing is added to them."
    )
    write_text(folder / CARD, "\n\n".join(parts) + "\n")


def loaded(manifest: Mapping[str, Any], name: str) -> str:
    """How Octavius and Hugging Face libraries load a folder."""
    model, text = manifest["loaders"]
    variable = text.removeprefix("Auto").lower()
    load = LOAD[manifest["format"]].format(
        folder=name, base=located(str(manifest["base"])), model=model, text=text, variable=variable
    )
    # A model with a processor sees images itself; for others, encoders and projectors are parts of Octavius.
    beside = PROJECTED if text == "AutoTokenizer" else ""
    got, ckpt = (f"hf download {name} --local-dir model\n", "model") if "/" in name else ("", name)
    return f'```bash\n{got}octavius predict --ckpt {ckpt} --question "..."\n```\n\n```python\n{load}\n```{beside}'


def served(folder: Path) -> str:
    """How llama-server serves a folder in the format gguf."""
    files = read_json(folder / FOLDER / SETTINGS)
    scales = [{"id": index, "scale": float(index == 0)} for index in range(len(files["experts"]))]
    return (
        "In this folder:\n\n```bash\n"
        f"llama-server --model {files['base']} --lora {','.join(files['experts'])} --port 8080\n"
        "octavius serve --backend llama-server --ckpt . --url http://127.0.0.1:8080\n```\n\n"
        "The second computes the gate's weights for each question, and sends them to the first as scales of the "
        "experts. It answers in OpenAI's chat format on port 8000, text alone: encoders and projectors are not in "
        f'this folder.\n\nOther clients of llama-server set the scales themselves, `"lora": {json.dumps(scales)}` in '
        'a request for the first expert alone. Name every expert, and set `"cache_prompt": false`: the server may '
        "otherwise reuse what it computed of an earlier prompt with other scales."
    )


def is_local(base: str) -> bool:
    """Whether a base model is a folder or file of this machine, such as the shipped one, not one of the hub."""
    return located(base) != base or Path(base).is_absolute()


def located(base: str) -> str:
    """The name by which Hugging Face libraries find a base model from any folder: of a local one, its whole path."""
    try:
        return str(find_checkpoint(base).resolve())
    except ValueError:
        return base


def last_test(checkpoint: Path, runs: Path) -> Path | None:
    """Log folder of the last finished test of a checkpoint; None if there is none.

    A test of another file under the same name, which this checkpoint has replaced since, does not count.
    """
    saved = checkpoint.stat().st_mtime
    for folder in reversed(found_in(runs)):
        try:
            run, _ = read(folder), history.read(folder)
        except ValueError:  # a damaged record; `octavius runs` names it
            continue
        recorded = run.get("checkpoint")
        path = Path(str(recorded.get("path"))) if isinstance(recorded, dict) else None
        if run.get("stage") == "test" and run.get("status") == facts.FINISHED and path is not None:
            started = datetime.fromisoformat(run["started"]).timestamp()
            if path.is_file() and path.samefile(checkpoint) and started >= saved:
                return folder
    return None


def training_sets(sections: Mapping[str, Any]) -> list[list[str]]:
    """Benchmark, split and sampling weight of each training set of a configuration."""
    data = sections.get("data")
    options = data.get("init_args") if isinstance(data, Mapping) else None
    found = options.get("train") if isinstance(options, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        name = str(data.get("class_path", "")) if isinstance(data, Mapping) else ""
        return [[f"`{name.rpartition('.')[2]}`", "", ""]]
    return [
        [
            f"`{one.get('name') or one.get('benchmark')}`",
            str(one.get("split", "")),
            f"{one.get('weight', 1):g}",
        ]
        for one in found
    ]


def routing(manifest: Mapping[str, Any]) -> str:
    """One sentence on which experts the folder uses."""
    if manifest["gate"] is None:
        place = "gate/" if manifest["format"] == "gguf" else ""
        return f"Each expert is separate. `{place}gate.safetensors` holds the gate that weights them by the question."
    asked = manifest["question"] or f"the task {manifest['task']}"
    if not isinstance(manifest["gate"], list):
        return f"The experts are fixed, for each layer of its own, for: {visible(asked, 200)}"
    used = ", ".join(f"{index} ({weight:.2f})" for index, weight in enumerate(manifest["gate"]) if weight)
    return f"The experts are fixed: {used}, as the gate weights them for: {visible(asked, 200)}"


def scores(folder: Path) -> list[list[str]]:
    """The headline scores of a test."""
    rows = []
    for one in history.last(history.read(folder)):
        if one.headline:
            interval = "" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
            chance = "" if one.chance is None else f"{one.chance:.3f}"
            rows.append(
                [one.set, one.metric, one.protocol, f"{one.value:.3f}", interval, chance, str(one.samples)]
            )
    return rows


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(visible(cell, 100).replace('|', '/') for cell in line)} |" for line in lines
    )
