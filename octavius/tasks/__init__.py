"""The tasks by name: what is asked, how it is answered, read back and scored."""

from octavius.tasks.base import Task
from octavius.tasks.captioning import Captioning, Conversation
from octavius.tasks.classification import Classification, FacialAttributes
from octavius.tasks.detection import Detection
from octavius.tasks.vqa import VQA

TASKS: dict[str, Task] = {
    "detection": Detection(),
    "captioning": Captioning(),
    "vqa": VQA(),
    "classification": Classification(),
    "facial_attributes": FacialAttributes(),
    "conversation": Conversation(),
}

__all__ = [
    "TASKS",
    "VQA",
    "Captioning",
    "Classification",
    "Conversation",
    "Detection",
    "FacialAttributes",
    "Task",
]
