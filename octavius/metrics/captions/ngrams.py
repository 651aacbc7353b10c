"""Tokenisation in the manner of the Penn Treebank, and n-gram counts.

The COCO caption scorer runs Stanford's PTB tokenizer (Java) before counting words. `ptb_tokens` implements
the rules that English captions need: contractions, possessives, abbreviations, numbers, hyphens, slashes,
quotes, brackets. Rare ones are omitted: emoticons, currencies other than the dollar, an initial that ends a
sentence.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

Ngram: TypeAlias = tuple[str, ...]

LONGEST = 4  # BLEU-4 and CIDEr use n-grams of 1 to 4 tokens

_CHAR = r"[^\W_]"  # a letter or a digit
_LETTER = r"[^\W\d_]"
_END = rf"(?!{_CHAR})"  # end of the word

# Abbreviations that keep their full stop: matched case-insensitively; only capitalised; only before a number.
_ABBREVIATIONS = (
    "Mr|Mrs|Ms|Dr|Prof|Sr|Jr|Messrs|Mme|Esq|Lt|Col|Gen|Capt|Sgt|Cpl|Pvt|Maj|Adm|Cmdr|Rev|Hon|Pres|Gov|Sen|Rep"
    "|St|Ste|Ave|Rd|Blvd|Rt|Sq|Bldg|Ft|Mt|Inc|Co|Cos|Corp|Ltd|Bros|Plc|Dept|Univ|Assn|Natl|Intl|Tel|Ext"
    "|Etc|Vs|Al|Cf|Est|Adj|Adv|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|Mon|Tue|Tues|Wed|Thu|Thurs|Fri"
    "|Calif|Fla|Conn|Mich|Ariz|Ala|Mo|Va|Okla|Tenn|Wis|Minn|Ky|Md|Ga|Colo|Kan|Neb|Nev|Wyo|Mont"
)
_CAPITALISED = "Miss|Tex|Mass|Wash|Ill|Pa|Ore|La|Del|Ark"
_NUMBERED = "Nos?|Figs?|pp|op|art|ca"

# At each position of the text, the first rule that matches yields one token.
_RULES = (
    # URLs, e-mail addresses
    r"https?://\S+[\w/]|www\.\S+[\w/]|[\w.+-]{1,64}@[\w-]+\.[\w.-]*\w",
    # markup tags
    r"</?[A-Za-z][^<>\s]{0,100}>",
    # first part of words that are split: can|not, gon|na, wan|na, got|ta, lem|me, gim|me
    rf"(?i:can(?=not{_END})|gon(?=na{_END})|wan(?=na{_END})|got(?=ta{_END})|lem(?=me{_END})|gim(?=me{_END}))",
    # the verb of a negation (the ca of can't); n't; the more of more'n
    rf"{_CHAR}+?(?=(?i:n't){_END})|(?i:n't){_END}|(?i:more)(?='n{_END})",
    # tokens that start with an apostrophe, such as 's, 'll, 'em, '90s, and 't of 'tis
    rf"'(?i:t(?=is|was)|(?:s|m|d|re|ve|ll|em|til|cause|n'?|\d\ds?){_END})",
    # contractions that stay whole, Ph.D.; the y' of y'all
    rf"(?i:o'clock|ma'am|c'mon|ol'|ph\.d\.){_END}|[Yy]'(?=all)",
    # acronyms with full stops (U.S.), initials (J.)
    rf"[A-Za-z](?:\.[A-Za-z])+(?:\.{_END}|(?![^\W_]|\.{_CHAR}))|[A-Za-z]\.{_END}",
    # abbreviations with their full stop; any word with its full stop before a comma, colon or semicolon
    rf"(?:(?i:{_ABBREVIATIONS})|{_CAPITALISED})\.{_END}|(?i:{_NUMBERED})\.(?=\s*\d)"
    rf"|{_LETTER}{_CHAR}*\.(?=[,;:])",
    # words or numbers joined by slashes (and/or, 1/2), mixed fractions (1-1/2)
    rf"{_CHAR}+(?:-{_LETTER}+){{0,2}}(?:/{_CHAR}+(?:-{_LETTER}+){{0,2}}){{1,2}}|\d+-\d+/\d+",
    # numbers with separators (3.5, 1,000, 10:30); the dollar of an amount
    r"[-+]?\d*(?:[.:,]\d+)+|\$(?=\d)",
    # capitals joined by & or + (AT&T)
    r"[A-Z]+(?:[&+][A-Z]+)+",
    # words joined by full stops, ! or ? (example.com)
    rf"{_LETTER}{_CHAR}*(?:[.!?]{_LETTER}{_CHAR}*)+",
    # words and numbers, also hyphenated (well-lit) or with d', l' or o' in front (o'neill)
    rf"(?:[dloDLO]'(?={_LETTER}))?{_CHAR}+(?:[-_]{_CHAR}+)*",
    # signed integers, hashtags, mentions
    rf"[-+]\d+{_END}|[#@][A-Za-z_]\w*",
    # quotes, ellipses, runs of ?!, * or -; any other character
    r"''|``|\.{2,}|[?!]+|\*+|-+|\S",
)
_TOKEN = re.compile("|".join(f"(?:{rule})" for rule in _RULES))
_PLAIN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": " - ", "\u2014": " - "}
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
# Tokens that the scorer removes. Brackets stay: the scorer's list has `-LRB-`, but tokens are already `-lrb-`.
_DROPPED = re.compile(r"""''|``|["'`.?!,:;…]|\.{2,}|-{1,4}""")


def ptb_tokens(text: str) -> list[str]:
    """Splits a text into lower-case tokens, without the punctuation that the caption scorer ignores.

    >>> ptb_tokens("The dog's owner can't see it, a well-lit sign: Mr. Li...")
    ['the', 'dog', "'s", 'owner', 'ca', "n't", 'see', 'it', 'a', 'well-lit', 'sign', 'mr.', 'li']
    """
    found = _TOKEN.findall(text.translate(_PLAIN))
    return [_BRACKETS.get(token, token.lower()) for token in found if not _DROPPED.fullmatch(token)]


def ngram_counts(tokens: Sequence[str], longest: int = LONGEST) -> Counter[Ngram]:
    """Number of occurrences of each n-gram of 1 to `longest` tokens.

    >>> ngram_counts(["a", "b", "a"], longest=2)
    Counter({('a',): 2, ('b',): 1, ('a', 'b'): 1, ('b', 'a'): 1})
    """
    return Counter(
        tuple(tokens[start : start + size])
        for size in range(1, longest + 1)
        for start in range(len(tokens) - size + 1)
    )
