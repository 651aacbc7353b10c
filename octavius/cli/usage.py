"""The general help and version of the command line, kept apart so that printing them does not import PyTorch."""

from collections.abc import Sequence

from octavius import __version__
from octavius.demo.options import parser

HELP = """\
usage: octavius COMMAND [options]

Tune one multimodal language model on many tasks with routed LoRA experts.

commands:
  fit        train, score after each epoch, keep a checkpoint  octavius fit --config 2d.yaml
  validate   score a checkpoint on its validation sets         octavius validate --ckpt last.ckpt
  test       score a checkpoint on its test sets               octavius test --ckpt last.ckpt
             or answer benchmarks, as in the paper's tables     octavius test --ckpt last.ckpt --benchmarks 2d
  score      predictions again, without a model                octavius score runs/benchmarks/voc2012.jsonl
  predict    answer a question about an image or a cloud       octavius predict --image x.png --question "..."
  serve      answer over HTTP, in OpenAI's chat format         octavius serve --ckpt last.ckpt --port 8000
  demo       a page to ask, with boxes and experts' weights    octavius demo --ckpt last.ckpt
  plan       memory, steps and time of a training              octavius plan --config paper/2d.yaml --gpus 8
  interference  what tasks and experts do to each other       octavius interference --ckpt last.ckpt
  compare    the same training in variants, with seeds         octavius compare --config 2d.yaml --arms ...
  export     a fixed routing as plain weights, or as LoRA      octavius export --question "..." --format peft --out x
  import     a checkpoint from published weights or a LoRA     octavius import FILE --config 2d.yaml --out start.ckpt
  miniature  write the miniature's pictures                    octavius miniature data/miniature
  rooms      write the miniature's scanned rooms               octavius rooms data/rooms
  build-instructions  make instruction data from annotations   octavius build-instructions --source coco ...
  check-data look at every sample of a configuration           octavius check-data --config 2d.yaml
             or tell which benchmarks' data are there          octavius check-data --data-root data

`octavius COMMAND --help` lists a command's options, `octavius fit --config 2d.yaml --print_config` what a run
would use. What is set more than once is taken from the command line first, then from the --config files (the
last one first), then from the configuration saved beside the checkpoint, which may name classes other than
Octavius' own with --trust only. A name such as 2d.yaml or last.ckpt is looked for here, then in configs/ or
checkpoints/. OCTAVIUS_DEBUG=1 shows where an error was raised.
"""


def overview(argv: Sequence[str]) -> str | None:
    """The output for arguments that need no command: the list of commands, the version, or demo's help; else None."""
    if not argv or argv[0] in ("--help", "-h", "help"):
        return HELP
    if argv[0] == "demo" and {"--help", "-h"} & set(argv):
        return parser().format_help()
    return f"octavius {__version__}\n" if argv[0] == "--version" else None
