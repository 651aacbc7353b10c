"""Help and version of the command line, kept apart so that printing them does not import PyTorch.

The help of a command lies beside this file as text: building its parser imports everything that the command needs.
Those of `fit`, `validate` and `test` are written by hand and name the options that are used most; the others are what
their parsers print (`make help-texts`; `tests/octavius/cli/test_help.py` compares them).
"""

from collections.abc import Sequence
from pathlib import Path

from octavius import __version__
from octavius.demo import options as demo
from octavius.runs import listing
from octavius.suggestions import nearest

HELP = """\
usage: octavius COMMAND [options]

Tune one multimodal language model on many tasks with routed LoRA experts.

commands:
  fit        train, score after each epoch, keep a checkpoint  octavius fit --config 2d.yaml
  validate   score a checkpoint on its validation sets         octavius validate --ckpt last.ckpt
  test       score a checkpoint on its test sets               octavius test --ckpt last.ckpt
             or answer benchmarks, as in the paper's tables     octavius test --ckpt last.ckpt --benchmarks 2d
  score      predictions again, without a model                octavius score runs/benchmarks/voc2012.jsonl
  runs       list runs with their scores, or compare some      octavius runs
  predict    answer a question about an image or a cloud       octavius predict --image x.png --question "..."
  serve      answer over HTTP, in OpenAI's chat format         octavius serve --ckpt last.ckpt --port 8000
  demo       a page to ask, with boxes and experts' weights    octavius demo --ckpt last.ckpt
  plan       memory, steps and time of a training              octavius plan --config paper/2d.yaml --gpus 8
  interference  what tasks and experts do to each other       octavius interference --ckpt last.ckpt
  compare    the same training in variants, with seeds         octavius compare --config 2d.yaml --arms ...
  export     a fixed routing as plain weights, or as LoRA      octavius export --question "..." --format peft --out x
  import     a checkpoint from LoRAs, or with more experts     octavius import A B --config 2d.yaml --out start.ckpt
  miniature  write the miniature's pictures                    octavius miniature data/miniature
  rooms      write the miniature's scanned rooms               octavius rooms data/rooms
  build-instructions  make instruction data from annotations   octavius build-instructions --source coco ...
  check-data look at every sample of a configuration           octavius check-data --config 2d.yaml
             or tell which benchmarks' data are there          octavius check-data --data-root data

`octavius COMMAND --help` explains a command, with --help-all every option of it; `octavius fit --config 2d.yaml
--print_config` shows what a run would use. What is set more than once is taken from the command line first, then
from the --config files (the last one first), then from the configuration saved beside the checkpoint, which may name
classes other than Octavius' own with --trust only. A name such as 2d.yaml or last.ckpt is looked for here, then in
configs/ or checkpoints/. OCTAVIUS_DEBUG=1 shows where an error was raised.
"""


EXAMPLES = {
    "fit": (
        "octavius fit --config 2d.yaml",
        "octavius fit --config 2d.yaml --model.lora.rank 16 --trainer.max_epochs 2",
        "octavius fit --ckpt last.ckpt --trainer.max_epochs 4",
    ),
    "validate": ("octavius validate --ckpt last.ckpt",),
    "test": ("octavius test --ckpt last.ckpt", "octavius test --ckpt last.ckpt --benchmarks 2d"),
    "score": (
        "octavius score runs/benchmarks/voc2012.jsonl",
        "octavius score runs/benchmarks/scienceqa.jsonl --protocol published",
        "octavius score --benchmark scanqa pred.answer_top10.json",
    ),
    "runs": ("octavius runs", "octavius runs octavius/version_0 octavius/version_1"),
    "predict": (
        'octavius predict --image picture.jpg --question "Describe the picture."',
        'octavius predict --cloud scan.ply --box "1 2 0.5 1 1 1" --question "What is this?"',
    ),
    "serve": (
        "octavius serve --ckpt last.ckpt --port 8000",
        "octavius serve --backend llama-server --ckpt llama --url http://127.0.0.1:8080",
    ),
    "demo": ("octavius demo --ckpt last.ckpt",),
    "plan": ("octavius plan --config paper/2d.yaml --gpus 8",),
    "interference": ("octavius interference --ckpt last.ckpt --samples 64",),
    "compare": (
        "octavius compare --config 2d.yaml --arms ablations/one_lora.yaml ablations/half_rank.yaml --seeds 3",
        "octavius compare --plan comparisons/table_3.yaml --print_commands",
    ),
    "export": (
        'octavius export --question "Describe the picture." --format peft --out captions',
        "octavius export --format gguf --out llama",
    ),
    "import": (
        "octavius import adapter --config 2d.yaml --out start.ckpt",
        "octavius import last.ckpt --add-experts 1 --out start.ckpt",
    ),
    "miniature": ("octavius miniature data/miniature",),
    "rooms": ("octavius rooms data/rooms",),
    "build-instructions": ("octavius build-instructions --source coco --root data/coco --split train2017",),
    "check-data": (
        "octavius check-data --data-root data --benchmarks 2d",
        "octavius check-data --config 2d.yaml",
    ),
}
"""Every command, with the examples at the end of its help."""

ALONE = ("build-instructions", "check-data", "predict", "runs", "score")
"""Commands that do without the imports of the others."""

HELP_ALL = "--help-all"
"""Prints every option of a command, from its parser."""

FOLDER = Path(__file__).with_name("help")
"""Holds the help of each command whose parser needs slow imports."""

QUICK_PARSERS = {"demo": demo.parser, "runs": listing.parser}
"""Parsers of the other commands."""


def overview(argv: Sequence[str]) -> str | None:
    """The help or version that the arguments ask for; None if they ask for a command, or for all of its options."""
    if not argv or argv[0] in ("--help", "-h", "help"):
        return HELP
    if argv[0] == "--version":
        return f"octavius {__version__}\n"
    if argv[0] not in EXAMPLES or not {"--help", "-h"} & set(argv[1:]):
        return None
    text = (
        QUICK_PARSERS[argv[0]]().format_help()
        if argv[0] in QUICK_PARSERS
        else (FOLDER / f"{argv[0]}.txt").read_text("utf-8")
    )
    return f"{text}\nexamples:\n" + "".join(f"  {example}\n" for example in EXAMPLES[argv[0]])


def unknown_command(argv: Sequence[str]) -> str | None:
    """What is wrong with the name of the command; None if there is such a command."""
    if argv[0] in EXAMPLES:
        return None
    return f"there is no command '{argv[0]}'{nearest(argv[0], EXAMPLES)}; commands are {', '.join(EXAMPLES)}"


def needs(argv: Sequence[str]) -> str:
    """The command whose module is enough to import, or "all"; "score" is that without the data of a benchmark."""
    command, options = argv[0], {argument.partition("=")[0] for argument in argv[1:]}
    if (command == "check-data" and "--config" in options) or command not in ALONE:
        return "all"
    return "score --benchmark" if command == "score" and "--benchmark" in options else command
