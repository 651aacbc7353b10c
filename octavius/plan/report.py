"""Formats the plan of a training: parameters, memory per GPU, steps and time."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from jsonargparse import Namespace

from octavius.decoder.image_cost import NO_IMAGE, ImageCost
from octavius.encoders.base import Encoder
from octavius.limits import NON_NEGATIVE_NUMBER, POSITIVE_INT, POSITIVE_NUMBER
from octavius.model import Octavius
from octavius.options import OptionParser
from octavius.plan.memory import GIB, Plan, parts, plan_memory, remedies, size
from octavius.plan.outline import Setup, outline, setup_of
from octavius.plan.rehearsal import Step, rehearse

RATES = {
    "A10": 125e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "L4": 121e12,
    "L40S": 362e12,
    "RTX3090": 71e12,
    "RTX4090": 165e12,
}
"""Peak FLOP/s in dense bfloat16 from the vendors' data sheets (SXM form)."""

SIZE = (640, 480)
"""Width and height in pixels of the image that is planned for, a usual one of COCO."""


@dataclass(frozen=True)
class Schedule:
    """The length of a training.

    Attributes:
        batch: samples per step over all GPUs.
        steps: steps in total.
        tokens: tokens that the decoder reads in total.
        seconds: duration in total.
    """

    batch: int
    steps: int
    tokens: int
    seconds: float


def parser() -> OptionParser:
    """The options of the command itself; all others are passed on as for `octavius fit`."""
    option_parser = OptionParser(
        prog="octavius plan",
        description="Say what a training needs, without weights, data or a GPU: parameters, memory, steps, time.",
        epilog="Options that are not named above are those of fit: --config, --data.init_args.batch_size 4 ...",
    )
    option_parser.add_argument("--gpus", type=positive, default=1, help="number of GPUs (default: 1)")
    option_parser.add_argument("--memory", type=float, default=80.0, help="GiB of each (default: 80)")
    option_parser.add_argument(
        "--gpu", choices=sorted(RATES), default="A100", help="whose peak rate (default: A100)"
    )
    option_parser.add_argument(
        "--utilisation", type=float, default=0.35, help="share of it that is reached, assumed (default: 0.35)"
    )
    option_parser.add_argument(
        "--longest", type=positive, help="tokens of the longest sample (default: max_tokens)"
    )
    option_parser.add_argument(
        "--text_tokens",
        type=positive,
        default=150,
        help="mean tokens of question, answer and template, beside the slots (default: 150)",
    )
    option_parser.add_argument(
        "--samples", type=positive, help="of an epoch (default: data.init_args.samples_per_epoch)"
    )
    option_parser.add_argument(
        "--reserve", type=float, default=2.0, help="GiB for CUDA, workspaces, fragmentation (default: 2)"
    )
    return option_parser


def positive(word: str) -> int:
    """Parses an integer of at least one."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {word}")
    return number


def report(config: Namespace, options: argparse.Namespace) -> str:
    """The plan as text.

    Raises:
        ValueError: the configuration does not train an OctaviusModule, or contradicts the options.
    """
    POSITIVE_INT.check(gpus=options.gpus, longest=options.longest, samples=options.samples)
    POSITIVE_INT.check(text_tokens=options.text_tokens)
    POSITIVE_NUMBER.check(memory=options.memory)
    NON_NEGATIVE_NUMBER.check(reserve=options.reserve)
    setup = setup_of(config)
    if not 0 < options.utilisation <= 1:
        raise ValueError(f"--utilisation is a share in 0..1 (0 excluded), found {options.utilisation:g}")
    model = outline(setup)
    image = model.decoder.image_cost(SIZE)
    encoders = (encoder for encoder in model.encoders.values() if isinstance(encoder, Encoder))
    slots = max((encoder.num_tokens for encoder in encoders), default=image.tokens)
    longest = options.longest or setup.max_tokens
    if longest <= slots:
        raise ValueError(f"a sample of {longest} tokens has no room for {slots} slots and an answer")
    step = Step(setup.batch_size, longest, longest - slots, image)
    plan = plan_memory(setup, model, options.gpus, step, options.reserve * GIB)
    lines = [f"{setup.decoder['name']}, {options.gpus} x {options.gpu} of {options.memory:g} GiB", ""]
    lines += [*_parameters(parts(model)), "", *_memory(plan, size(model.decoder.parameters()))]
    other = replace(setup, checkpointing=not setup.checkpointing)
    needs = rehearse(other, step, other.checkpointing)
    held, rest = _gib(needs.held), _gib(needs.peak - needs.held)
    said = "with" if other.checkpointing else "without"
    lines += [f"  {said} activation checkpointing: {held} of activations, {rest} of logits and temporaries"]
    lines += ["", *_verdict(plan, model, options.memory), "", *_time(setup, options, slots, image)]
    return "\n".join(lines)


def _verdict(plan: Plan, model: Octavius, memory: float) -> Iterator[str]:
    """Whether it fits in memory, and if not, up to three changes that would help."""
    fits = plan.total <= memory * GIB
    yield f"{'fits' if fits else 'DOES NOT FIT'}: {_gib(plan.total)} of {memory:g} GiB"
    if fits:
        return
    found = list(islice(remedies(plan, model, memory * GIB), 3))
    yield "it would with one of" if found else "nor does a smaller batch: take more GPUs, or a smaller model"
    yield from (f"  {one}" for one in found)


def schedule(setup: Setup, options: argparse.Namespace, slots: int, image: ImageCost = NO_IMAGE) -> Schedule:
    """Steps, tokens and time.

    Assumes that each sample has a medium with the most slots and `text_tokens` more tokens, since short
    samples are padded to the length of their batch.

    Raises:
        ValueError: the number of samples is unknown.
    """
    samples = options.samples or setup.samples_per_epoch
    if samples is None:
        raise ValueError(
            "how many samples an epoch has is not known before the data are read; say --samples, or set "
            "data.init_args.samples_per_epoch"
        )
    batch = setup.batch_size * setup.accumulate * options.gpus
    steps = (
        (setup.epochs or 1) * (samples // batch) if setup.max_steps < 0 or setup.epochs else setup.max_steps
    )
    steps = min(steps, setup.max_steps) if setup.max_steps >= 0 else steps
    tokens = slots + options.text_tokens
    needs = rehearse(setup, Step(setup.batch_size, tokens, options.text_tokens // 2), setup.checkpointing)
    operations = needs.operations + setup.batch_size * image.operations
    seconds = steps * setup.accumulate * operations / (RATES[options.gpu] * options.utilisation)
    return Schedule(batch, steps, steps * batch * tokens, seconds)


def _parameters(table: dict[str, tuple[int, int]]) -> Iterator[str]:
    yield f"{'parameters':26}{'all':>16}{'trained':>16}"
    for name, (all_of_it, trained) in table.items():
        yield f"  {name:24}{all_of_it:16,}{trained:16,}"
    everything, trained = (sum(column) for column in zip(*table.values(), strict=True))
    yield f"  {'sum':24}{everything:16,}{trained:16,}"
    adapters, language = (table.get(name, (0, 0))[0] for name in ("LoRA experts", "language model"))
    yield f"  trained: {trained / everything:.2%} of all" + (
        f"; the experts are {adapters / (adapters + language):.2%} of language model and experts"
        if adapters
        else ""
    )


def _memory(plan: Plan, loaded: float) -> Iterator[str]:
    setup = plan.setup
    spread = f"FSDP2 over {plan.gpus}" if setup.sharded else "whole on each"
    again = "with" if setup.checkpointing else "without"
    yield f"memory of each GPU ({spread}, {setup.precision}, {again} activation checkpointing)"
    for name, value in plan.kinds.items():
        yield f"  {name:24}{_gib(value):>12}"
    yield f"  for a micro-batch of {plan.step.batch} samples of {plan.step.tokens} tokens"
    if plan.step.image.tokens:
        yield f"  {plan.step.image.tokens} of them those of an image of {SIZE[0]} x {SIZE[1]} pixels"
    yield f"  while it is loaded, the decoder takes {_gib(plan.gpus * loaded)} of the host's memory: once a process"


def _time(setup: Setup, options: argparse.Namespace, slots: int, image: ImageCost) -> Iterator[str]:
    found = schedule(setup, options, slots, image)
    tokens = slots + options.text_tokens
    yield (
        f"steps: {found.steps:,} of {found.batch} samples ({setup.batch_size} x {setup.accumulate} micro-batches x "
        f"{options.gpus} GPUs), {found.tokens / 1e6:,.0f} million tokens at {tokens} a sample"
    )
    yield (
        f"time: about {_duration(found.seconds)} if {options.utilisation:.0%} of {RATES[options.gpu] / 1e12:g} "
        f"TFLOP/s are reached on each {options.gpu}, both assumed; data loading and evaluation come on top"
    )


def _gib(value: float) -> str:
    return f"{value / GIB:.2f} GiB"


def _duration(seconds: float) -> str:
    """Hours if more than two, otherwise minutes or seconds.

    >>> _duration(7300), _duration(600), _duration(8)
    ('2.0 hours', '10.0 minutes', '8.0 seconds')
    """
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def split_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits arguments into the plan's own options and those of `fit`."""
    return parser().parse_known_args(list(argv))
