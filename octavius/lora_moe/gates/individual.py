"""A gate with one expert per task, chosen by the name of the task."""

from collections.abc import Sequence

import torch

from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput, GateSize, Reading


class IndividualGate(Gate):
    """One expert per task: the individual LoRAs of the paper's Table 4.

    In training a task without an expert is an error. In evaluation it gets the mean of all experts (weights 1 / E),
    since nothing favours any of them.

    Args:
        size: sizes of the model that the gate is for, with as many experts as tasks.
        tasks: names of the tasks in the order of the experts. `task/group` names a part of a task, such as the
            questions of one topic, and takes precedence over the whole task.

    Raises:
        ValueError: there is not exactly one name per expert.
    """

    reads: tuple[Reading, ...] = ("task",)

    def __init__(self, size: GateSize, /, *, tasks: Sequence[str] = ()) -> None:
        if isinstance(tasks, str) or not tasks or len(set(tasks)) < len(tasks) or size.experts != len(tasks):
            raise ValueError(
                "the individual gate has an expert for each task, named once each in `tasks` in the experts' order: "
                f"found experts = {size.experts}, tasks = {tasks if isinstance(tasks, str) else [*tasks]}"
            )
        super().__init__(size)
        self.task_names = list(tasks)

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """Routes by the names of the tasks, with weights (B, E) that need no gradient.

        Raises:
            ValueError: names are missing, or in training a task has no expert.
        """
        if asked.tasks is None or len(asked.tasks) != len(asked.mask):
            raise ValueError(
                f"the individual gate goes by the task's name: expected one for each of {len(asked.mask)} samples, "
                f"found {'none' if asked.tasks is None else len(asked.tasks)}"
            )
        tasks = [name if name in self.task_names else name.partition("/")[0] for name in asked.tasks]
        unseen = sorted(set(tasks) - set(self.task_names))
        if unseen and self.training:
            raise ValueError(
                f"the individual gate has no expert for the tasks {unseen}: it has {self.task_names}; add them to "
                "`tasks`, with an expert each, or leave their data out"
            )
        count = len(self.task_names)
        rows = [
            [float(task_name == task) for task_name in self.task_names]
            if task in self.task_names
            else [1 / count] * count
            for task in tasks
        ]
        weights = torch.tensor(rows, device=asked.mask.device)
        return [GateOutput(weights, weights)]

    def extra_repr(self) -> str:
        """Settings shown when the model is printed."""
        return f"tasks={self.task_names}"
