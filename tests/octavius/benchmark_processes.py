"""Evaluates benchmarks and likelihoods on one process or two, for `test_processes_benchmarks.py`.

Run as a script by each of two processes, it does everything that `test_processes_benchmarks.py` looks at.
"""

import sys
from pathlib import Path

import lightning as L
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from datamodules.examples import EvalSet
from octavius.callbacks.evaluation import Evaluation
from octavius.distributed.fsdp2 import FSDP2
from octavius.instruction.tokenizer import load_tokenizer
from octavius.report.benchmark_evaluation import BenchmarkEvaluation
from tests.octavius import tiny_runs


class AllSets(tiny_runs.Pieces):
    """At tests too the sets of five, one and three samples: a process may have a batch without candidates."""

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002 - the same at each
        return super().eval_sets("validate")


def write_decoder(folder: Path) -> Path:
    """A LLaMA of two layers and width 32 with large random weights, and its tokenizer."""
    backend = load_tokenizer(tiny_runs.TOKENIZER).backend
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    marks = {f"{name}_token_id": getattr(backend, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(backend), initializer_range=0.3, tie_word_embeddings=True, **shape, **marks
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    backend.save_pretrained(folder)
    return folder


def answer(folder: Path, name: str, strategy: str | FSDP2, processes: int) -> None:
    """Answers all sets into the folder of that name."""
    model = tiny_runs.make(folder / "decoder")
    data = AllSets(processor=model.processor)
    keys = [(item.name, sample.id) for item in data.eval_sets("test") for sample in item.samples]
    settings = Evaluation(max_new_tokens=5, likelihood=True, controls=[])
    trainer = L.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=strategy,
        logger=False,
        callbacks=[BenchmarkEvaluation(settings, folder / name, keys)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.test(model, datamodule=data, verbose=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    home = Path(sys.argv[1])
    for kind in ("ddp", "fsdp"):
        answer(home, kind, FSDP2() if kind == "fsdp" else kind, 2)
