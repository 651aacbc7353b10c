"""TRL's `SFTTrainer` trains a routed model on prompts and completions; it is tested where TRL is installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from octavius.lora_moe import RoutedModel, get_routed_model
from tests.octavius.settings import lora_moe

trl = pytest.importorskip("trl", reason="TRL is not installed (pip install trl)")
datasets = pytest.importorskip("datasets")

TOKENIZER = Path(__file__).resolve().parents[4] / "checkpoints" / "miniature" / "language"
SETTINGS = {"experts": 3, "rank": 4, "dropout": 0.0, "targets": ["q_proj", "v_proj"]}
ROWS = [
    {"prompt": f"What is {name}?", "completion": f" It is {kind}."}
    for name, kind in [
        ("red", "a colour"),
        ("a star", "a shape"),
        ("blue", "a colour"),
        ("a heart", "a shape"),
    ]
] * 4


def base() -> LlamaForCausalLM:
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def trainer_of(model: RoutedModel, folder: Path, **options: Any) -> Any:
    told: dict[str, Any] = {"gradient_checkpointing": False, "bf16": False, "save_steps": 3, **options}
    args = trl.SFTConfig(
        output_dir=str(folder),
        max_steps=6,
        per_device_train_batch_size=4,
        learning_rate=0.02,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **told,
    )
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    data = datasets.Dataset.from_list(ROWS)
    return trl.SFTTrainer(model, args=args, train_dataset=data, processing_class=tokenizer)


def losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def routed(**options: Any) -> RoutedModel:
    model = base()
    torch.manual_seed(1)
    return get_routed_model(model, lora_moe(**(SETTINGS | options)))


def test_it_trains_saves_resumes_and_is_loaded(tmp_path: Path) -> None:
    through = trainer_of(routed(), tmp_path)
    through.train()
    assert losses(through)[-1] < losses(through)[0]
    resumed = trainer_of(routed(), tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert losses(resumed) == pytest.approx(losses(through))
    assert json.loads((tmp_path / "checkpoint-6" / "routed_config.json").read_text())["lora_moe"]["rank"] == 4
    again = RoutedModel.from_pretrained(base(), tmp_path / "checkpoint-6").eval()
    ids = torch.tensor([[1, 50, 60, 70]])
    told = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(again.generate(ids, **told), through.model.eval().generate(ids, **told))


def test_its_losses_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    options = {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "weight_decay": 0.0}
    trainer = trainer_of(routed(), tmp_path, **options)
    trainer.train()
    model = routed().train()
    optimizer = torch.optim.AdamW(
        [part for part in model.parameters() if part.requires_grad], 0.02, weight_decay=0.0
    )
    found = []
    # Another trainer has the same batches in the same order.
    for step, batch in enumerate(trainer_of(model, tmp_path, **options).get_train_dataloader()):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
        if step == 3:  # the end of the first epoch, after which the order is another
            break
    assert losses(trainer)[:4] == pytest.approx(found, rel=1e-4)


def test_checkpointing_changes_nothing_but_rounding(tmp_path: Path) -> None:
    plain, checkpointed = (
        trainer_of(routed(), tmp_path),
        trainer_of(routed(), tmp_path, gradient_checkpointing=True),
    )
    plain.train()
    checkpointed.train()
    assert losses(checkpointed) == pytest.approx(losses(plain), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        ({}, {"packing": True}, "several sequences"),
        ({}, {"completion_only_loss": False}, "labels begin with the first token"),
        ({"losses": {"cv": 0.1}}, {}, "leave `losses` out"),
    ],
    ids=["packed", "no prompt", "losses"],
)
def test_what_would_be_silently_wrong_is_refused(
    tmp_path: Path, settings: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        trainer_of(routed(**settings), tmp_path, **options).train()
