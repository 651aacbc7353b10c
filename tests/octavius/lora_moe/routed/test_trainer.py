"""`transformers.Trainer` trains, saves, resumes and evaluates a routed model as any other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

from octavius.lora_moe import LoRAMoEConfig, RoutedModel, get_routed_model

Make = Callable[..., Any]
Rows = list[dict[str, Tensor]]


@pytest.fixture
def rows() -> Rows:
    """Twelve prompts of two kinds with their answers, of different lengths, padded on the right."""
    random = torch.Generator().manual_seed(0)
    made = []
    for index in range(12):
        prompt = torch.randint(1, 30, (3 + index % 3,), generator=random) + 29 * (index % 2)
        answer = torch.tensor([prompt[0], prompt[1], 60])
        ids = torch.cat([prompt, answer, torch.zeros(3 - index % 3, dtype=torch.int64)])
        labels = torch.full_like(ids, -100)
        labels[len(prompt) : len(prompt) + 3] = answer
        made.append({"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels})
    return made


def arguments(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "learning_rate": 0.02,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
        **options,
    }


def losses(trainer: Trainer) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def weights(model: RoutedModel) -> dict[str, Tensor]:
    return {name: part.detach() for name, part in model.named_parameters() if part.requires_grad}


def test_a_resumed_run_is_the_run_that_went_through(
    make_routed: Make, make_llama: Make, rows: Rows, tmp_path: Path
) -> None:
    options = arguments(tmp_path / "run", save_steps=3, gradient_accumulation_steps=2)
    through = Trainer(make_routed(dropout=0.1), TrainingArguments(**options), train_dataset=rows)
    through.train()
    assert losses(through)[-1] < losses(through)[0]
    middle = tmp_path / "run" / "checkpoint-3"
    assert not (middle / "config.json").exists()
    assert not (middle / "pytorch_model.bin").exists()
    resumed = Trainer(make_routed(dropout=0.1), TrainingArguments(**options), train_dataset=rows)
    resumed.train(resume_from_checkpoint=str(middle))
    assert losses(resumed) == losses(through)
    for name, part in weights(through.model).items():
        assert torch.equal(weights(resumed.model)[name], part), name
    again = RoutedModel.from_pretrained(make_llama(), tmp_path / "run" / "checkpoint-6")
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    assert torch.equal(again(**batch).logits, through.model.eval()(**batch).logits)


def test_resuming_from_another_model_is_refused(make_routed: Make, rows: Rows, tmp_path: Path) -> None:
    options = arguments(tmp_path, max_steps=1, save_steps=1)
    Trainer(make_routed(), TrainingArguments(**options), train_dataset=rows).train()
    other = Trainer(make_routed(targets=["k_proj"]), TrainingArguments(**options), train_dataset=rows)
    with pytest.raises(ValueError, match="of another model"):
        other.train(resume_from_checkpoint=True)


def test_the_best_checkpoint_is_loaded_in_the_end(make_routed: Make, rows: Rows, tmp_path: Path) -> None:
    options = arguments(
        tmp_path,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="best",
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # so that the best is not the last
    )
    trainer = Trainer(make_routed(), TrainingArguments(**options), train_dataset=rows, eval_dataset=rows)
    trainer.train()
    found = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert found[0] > found[1] > found[2]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(found[0], rel=1e-6)


def test_it_evaluates_by_generation(make_routed: Make, rows: Rows, tmp_path: Path) -> None:
    routed = make_routed()
    prompts = [
        {
            "input_ids": row["input_ids"][:3],
            "attention_mask": row["attention_mask"][:3],
            "labels": torch.full((3,), -100),
        }
        for row in rows[:4]
    ]
    args = Seq2SeqTrainingArguments(
        **arguments(tmp_path, per_device_eval_batch_size=2), predict_with_generate=True
    )
    seen = []

    def metrics(found: Any) -> dict[str, float]:
        seen.append(torch.tensor(found.predictions))
        return {"answers": len(found.predictions)}

    trainer = Seq2SeqTrainer(routed, args, eval_dataset=prompts, compute_metrics=metrics)
    assert trainer.evaluate(max_new_tokens=4, do_sample=False)["eval_answers"] == 4
    ids = torch.stack([row["input_ids"] for row in prompts])
    expected = routed.generate(ids, max_new_tokens=4, do_sample=False)
    assert torch.equal(seen[0][:, : expected.shape[1]], expected)


def test_columns_of_questions_reach_the_gate(make_routed: Make, rows: Rows, tmp_path: Path) -> None:
    question = torch.tensor([44, 45, 46])
    routed = make_routed()
    asked = [{**row, "question_ids": question} for row in rows]
    trainer = Trainer(routed, TrainingArguments(**arguments(tmp_path)), eval_dataset=asked)
    trainer._set_signature_columns_if_needed()
    assert {"question_ids", "question_mask", "tasks"} <= set(trainer._signature_columns)
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    expected = routed(**batch, question_ids=question[None]).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gate", ["instance", pytest.param("token", marks=pytest.mark.slow)])
def test_checkpointed_and_mixed_precision_runs_learn(
    make_routed: Make, rows: Rows, tmp_path: Path, gate: str
) -> None:
    def run(**options: Any) -> list[float]:
        args = TrainingArguments(**arguments(tmp_path, max_steps=3, save_strategy="no", **options))
        trainer = Trainer(make_routed(gate=gate), args, train_dataset=rows)
        trainer.train()
        return losses(trainer)

    plain = run()
    assert run(gradient_checkpointing=True) == pytest.approx(plain, rel=1e-5)
    assert run(bf16=True) == pytest.approx(plain, rel=0.05)


def test_a_quantised_base_counts_as_one_with_adapters(make_llama: Make, tmp_path: Path, rows: Rows) -> None:
    model = make_llama()
    model.is_quantized = True
    model.hf_quantizer = type("Quantiser", (), {"is_trainable": True, "is_qat_trainable": False})()
    args = TrainingArguments(**arguments(tmp_path))
    with pytest.raises(ValueError, match="purely quantized"):
        Trainer(model, args, train_dataset=rows)
    routed = get_routed_model(model, LoRAMoEConfig(experts=2, rank=2))
    Trainer(routed, args, train_dataset=rows)
    assert isinstance(routed, LlamaForCausalLM)
