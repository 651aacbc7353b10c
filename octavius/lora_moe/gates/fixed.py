"""Task names, or nothing but the number of samples, come in; weights that are not learned go out."""

from collections.abc import Sequence

import torch

from octavius.lora_moe.gates.base import Asked, Choice, Gate


class UniformGate(Gate):
    """No routing: every expert has the weight 1 / E for every sample."""

    def choices(self, asked: Asked) -> list[Choice]:
        """Reads nothing but how many samples there are."""
        samples, device = len(asked.mask), asked.mask.device
        equal = [torch.full((samples, count), 1.0 / count, device=device) for count in self.counts]
        return [Choice(weights, weights) for weights in equal]

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return f"experts={self.experts}"


class IndividualGate(Gate):
    """An expert of its own for each task: the individual LoRAs of the paper's Table 4.

    A task that no expert is named for is an error while training. In use it takes the mean of all experts, the
    weight 1 / E for each, since nothing is known that speaks for one of them.

    Args:
        tasks: names of the tasks, in the order of the experts; `task/group` is a part of a task, such as the
            questions of one topic, and goes before the task as a whole.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        if isinstance(tasks, str) or not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(
                f"the individual gate needs the names of the tasks, each once, one for each expert, found {tasks!r}"
            )
        super().__init__(len(tasks))
        self.tasks = list(tasks)

    def choices(self, asked: Asked) -> list[Choice]:
        """Reads the names of the tasks.

        Raises:
            ValueError: no names are given, or while training one has no expert.
        """
        if asked.tasks is None or len(asked.tasks) != len(asked.mask):
            raise ValueError(
                f"the individual gate goes by the task's name: expected one for each of {len(asked.mask)} samples, "
                f"found {'none' if asked.tasks is None else len(asked.tasks)}"
            )
        tasks = [name if name in self.tasks else name.partition("/")[0] for name in asked.tasks]
        unseen = sorted(set(tasks) - set(self.tasks))
        if unseen and self.training:
            raise ValueError(
                f"the individual gate has no expert for the tasks {unseen}: it has {self.tasks}; add them to "
                "`tasks`, with an expert each, or leave their data out"
            )
        count = len(self.tasks)
        rows = [
            [float(own == task) for own in self.tasks] if task in self.tasks else [1 / count] * count
            for task in tasks
        ]
        weights = torch.tensor(rows, device=asked.mask.device)
        return [Choice(weights, weights)]

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return f"tasks={self.tasks}"
