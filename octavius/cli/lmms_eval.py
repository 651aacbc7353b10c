"""Adapter for lmms-eval: `lmms-eval --model octavius --model_args ckpt=last.ckpt --tasks scienceqa_img`.

lmms-eval finds it by the entry point `lmms_eval.models`. Its pins differ from those of Octavius, so that it is no
dependency; this module can be imported without it, but its model cannot be made.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from octavius.checkpoint.load import load
from octavius.cli.answer_files import sample_of
from octavius.instruction.sample import Media
from octavius.limits import POSITIVE_INT
from octavius.presets import find_checkpoint

if TYPE_CHECKING:
    Base: Any = object
else:
    try:
        from lmms_eval.api.model import lmms as Base
    except ModuleNotFoundError:
        Base = object

MAX_NEW_TOKENS = 128
"""Default maximum length of an answer, as of `octavius predict`; tasks set their own."""


def manifest() -> Any:
    """What the entry point registers."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("octavius", simple_class_path=f"{__name__}.Octavius")


class Octavius(Base):  # type: ignore[misc]
    """A checkpoint or exported folder as a model of lmms-eval, on one process."""

    is_simple = True

    def __init__(
        self,
        ckpt: str = "last.ckpt",
        batch_size: int | str = 1,
        device: str | None = None,
        trust: bool | str = False,
        max_batch_size: int | None = None,  # noqa: ARG002 - lmms-eval names it always
    ) -> None:
        """Loads the model.

        Args:
            ckpt: a checkpoint of `octavius fit`, or a folder of `octavius export`.
            batch_size: questions answered at once.
            device: device of the model; by default the accelerator, if there is one.
            trust: let the configuration of the checkpoint name any class, which runs its code.
            max_batch_size: not used.
        """
        super().__init__()
        self.batch_size = int(batch_size)
        POSITIVE_INT.check(batch_size=self.batch_size)
        self.module = load(find_checkpoint(ckpt), str(trust).lower() == "true")
        if device is None:
            found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            device = str(found or "cpu")
        self.module.to(device)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers: question, generation options, function from a document to its pictures, document, task, split."""
        groups: dict[str, list[int]] = {}  # by generation options, which a batch shares
        for index, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(index)
        answers = [""] * len(requests)
        with tqdm(total=len(requests), unit="answer", disable=None) as bar:
            for group in groups.values():
                for start in range(0, len(group), self.batch_size):
                    rows = group[start : start + self.batch_size]
                    for index, answer in zip(
                        rows, self._answers([requests[row].args for row in rows]), strict=True
                    ):
                        answers[index] = answer
                    bar.update(len(rows))
        return answers

    def _answers(self, rows: Sequence[tuple[Any, ...]]) -> list[str]:
        samples = [
            sample_of(
                str(question).replace("<image>", "").strip(), self._media(to_visual, document, task, split)
            )
            for question, _, to_visual, document, task, split in rows
        ]
        self.module.model.prepare(lambda: samples, self.module.device)
        examples = [self.module.processor.build_example(sample, sample.question, None) for sample in samples]
        batch = self.module.processor.collate(examples).to(self.module.device)
        asked = rows[0][1]
        options = {name: asked[name] for name in ("num_beams",) if asked.get(name) is not None}
        if asked.get("do_sample") or (asked.get("temperature") or 0) > 0:
            options |= {"do_sample": True, "temperature": asked.get("temperature") or 1.0}
            options |= {"top_p": asked["top_p"]} if asked.get("top_p") is not None else {}
        with torch.inference_mode():
            texts, _ = self.module.answer(
                batch, int(asked.get("max_new_tokens") or MAX_NEW_TOKENS), **options
            )
        ends = asked.get("until") or []
        for end in [ends] if isinstance(ends, str) else ends:
            texts = [text.split(end)[0] if end else text for text in texts]
        return texts

    def _media(
        self, to_visual: Callable[[Any], Sequence[Any] | None], document: Any, task: str, split: str
    ) -> dict[str, Media]:
        """The picture of a document."""
        pictures = to_visual(self.task_dict[task][split][document]) or []
        if len(pictures) > 1:
            raise ValueError(
                f"document {document} of {task} has {len(pictures)} pictures; Octavius takes one in a question"
            )
        if isinstance(picture := next(iter(pictures), None), str | Path):
            raise ValueError(
                f"document {document} of {task} has a file, {str(picture)[:80]}; expected a picture"
            )
        return {} if picture is None else {"image": Media(array=np.asarray(picture.convert("RGB")))}

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refused: every task is asked as in training, by generation."""
        raise NotImplementedError(f"Octavius generates answers; {requests[0].task_name} asks for likelihoods")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refused."""
        raise NotImplementedError(
            f"Octavius answers one question; {requests[0].task_name} asks in several rounds"
        )
