"""Fixtures for tests of data modules: processors with the tokenizer of the miniature."""

import pytest

from datamodules.miniature.symbolic import GRID, WIDTH
from datamodules.miniature.vocabulary import build_tokenizer, world_lines
from octavius.instruction.batch import Processor
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.tokenizer import Tokenizer
from octavius.media.images import ArrayLoader, ImageLoader
from tests.datamodules.fewer_points import FewerPoints


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A tokenizer trained on a little of the world's text."""
    return Tokenizer(build_tokenizer(world_lines(0, 40), 700))


@pytest.fixture(scope="session")
def processor(tokenizer: Tokenizer) -> Processor:
    """Takes pictures of files, four slots each."""
    image = ImageLoader(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Processor(PromptBuilder(tokenizer, {"image": 4}), {"image": image})


@pytest.fixture(scope="session")
def cloud_processor(tokenizer: Tokenizer) -> Processor:
    """Takes pictures of files, 4 slots each, and a few points of clouds, 16 slots each."""
    image = ImageLoader(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    prompts = PromptBuilder(tokenizer, {"image": 4, "cloud": 16})
    return Processor(prompts, {"image": image, "cloud": FewerPoints()})


@pytest.fixture(scope="session")
def symbolic_processor(tokenizer: Tokenizer) -> Processor:
    """Takes symbolic grids, a slot for each patch."""
    slots = GRID * GRID
    return Processor(PromptBuilder(tokenizer, {"image": slots}), {"image": ArrayLoader((slots, WIDTH))})
