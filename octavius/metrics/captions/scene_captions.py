"""Caption metrics as in the published evaluation: one answer per scene against one reference."""

import math
from collections.abc import Sequence

import numpy as np

from octavius.instruction.sample import References
from octavius.metrics.captions.bleu import bleu_of_counts, bleu_scores, sentence_counts
from octavius.metrics.captions.cider import cider_scores
from octavius.metrics.captions.ngrams import LONGEST
from octavius.metrics.captions.rouge import rouge_l
from octavius.metrics.pairs import caption_tokens
from octavius.metrics.records import Records, mean
from octavius.metrics.reporting import Weigh, shares


class LastOfScene(Records):
    """CIDEr, BLEU and ROUGE-L of the last answer of each scene against its first reference.

    The published evaluation of Octavius stored answers in a dict by scene name, so later ones overwrote
    earlier ones, and read one reference per item. Scores are comparable with that paper only: most answers
    are not scored, and the idf weights of CIDEr come from one text per scene. Unlike in all other metrics the
    order of samples matters. Without any update the values are nan.
    """

    columns = ("cider", "bleu1", "bleu4", "rouge_l")
    headline = "cider"
    averaged = ("cider",)

    def __init__(self, tokenize: bool = True) -> None:
        """Takes raw texts, or with `tokenize=False` texts whose tokens are separated by spaces."""
        super().__init__()
        self.tokenize = tokenize

    def update(self, predictions: Sequence[str | None], golds: Sequence[References]) -> None:
        """Adds one text, or None, per gold."""
        pairs = caption_tokens(predictions, golds, self.tokenize)
        if nameless := [index for index, gold in enumerate(golds) if not gold.scene]:
            raise ValueError(
                f"the protocol published scores one answer a scene, but {len(nameless)} of {len(golds)} golds name "
                f"no scene, first gold {nameless[0]}; its reader sets References.scene, or score by the protocol "
                "standard"
            )
        self.records += [
            (gold.scene, said, texts[0]) for gold, (said, texts) in zip(golds, pairs, strict=True)
        ]

    def compute(self) -> dict[str, float]:
        """The keys cider (0 to 10), bleu1 to bleu4 and rouge_l (0 to 1)."""
        last = {scene: (said, [reference]) for scene, said, reference in self.records}
        pairs = list(last.values())
        bleu = bleu_scores(pairs) if pairs else [math.nan] * LONGEST
        values = {"cider": mean(cider_scores(pairs)), "rouge_l": mean([rouge_l(*pair) for pair in pairs])}
        return values | {f"bleu{size}": score for size, score in enumerate(bleu, start=1)}

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[References]) -> Weigh:
        """The scores of the last answers, weighted by scene."""
        last = list({gold.scene: index for index, gold in enumerate(golds)}.values())
        pairs = caption_tokens([predictions[n] for n in last], [golds[n] for n in last], self.tokenize)
        firsts = [(said, texts[:1]) for said, texts in pairs]
        means = shares({"cider": cider_scores(firsts), "rouge_l": [rouge_l(*pair) for pair in firsts]})
        table = np.array([sentence_counts(*pair) for pair in firsts], float)
        return lambda weights: means(weights[:, last]) | bleu_of_counts(weights[:, last] @ table)
