"""A run of `transformers.Trainer` over a routed model, in one process or as one of several of torchrun."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from octavius.lora_moe import LoRAMoEConfig, get_routed_model


def run(folder: Path, batch_size: int, **options: Any) -> None:
    """Trains four steps and writes the losses and the tensors that were learnt."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=0,
        initializer_range=0.3,
    )
    model = get_routed_model(LlamaForCausalLM(config), LoRAMoEConfig(experts=3, rank=2, dropout=0.0))
    rows = []
    for index in range(16):
        ids = torch.randint(1, 60, (9,))
        ids[7 + index % 3 :] = 0  # answers of different lengths
        labels = ids.masked_fill(ids == 0, -100)
        labels[: 4 + index % 2] = -100
        rows.append({"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels})
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=batch_size,
        learning_rate=0.02,
        logging_steps=1,
        save_steps=4,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    trainer = Trainer(model, args, train_dataset=rows)
    trainer.train()
    if trainer.is_world_process_zero():
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        (folder / "losses.json").write_text(json.dumps(losses), encoding="utf-8")


if __name__ == "__main__":
    run(Path(sys.argv[1]), 1, gradient_checkpointing=sys.argv[2] == "checkpointed")
