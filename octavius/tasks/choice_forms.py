"""Regular expressions for the ways in which a text states an option, used by `octavius.tasks.choices`.

They are matched against a cleaned text in which the content of each option is replaced by one character,
starting at `CONTENT`, so that words inside an option cannot match a form. Repetitions are never nested:
matching takes linear time.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

CONTENT = 0xF0000
"""First of the private-use characters that stand for the contents of options."""

_C = f"[{chr(CONTENT)}-{chr(CONTENT + 0xFFFD)}]"
WORD = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A word character, in scripts that separate words by spaces."""


@dataclass(frozen=True)
class Form:
    """A regular expression that is compiled at its first use: to compile all of them takes a tenth of a second."""

    pattern: str
    flags: int = 0

    def __getattr__(self, name: str) -> Any:
        """A method of the compiled pattern, such as `match`; `re` keeps what it compiled."""
        return getattr(re.compile(self.pattern, self.flags), name)


def _any(words: str) -> str:
    """A pattern for any of several space-separated words or phrases, ignoring case; `_` stands for a space."""
    return f"(?i:{'|'.join(words.split()).replace('_', ' ')})"


# Letters.

_BEFORE_REASON = _any(
    "because since as for so which due given with based but and or is was where when if in from by rather instead not"
)
BRACKETED = Form(rf"(?<!{WORD})\(\s?([A-Za-z])\s?\)(?!{WORD})")
BARE = Form(
    rf"(?<!{WORD})([A-Za-z])(?=[ \t]*(?:\Z|\n|[,;!?)\]}}/|&(]|{_C}|\.(?!{WORD})|:(?![\\/])|-(?!{WORD})|选项|因|由"
    rf"|正确|对|です|だ|입니다|{_BEFORE_REASON}\b))"
)
"""A letter on its own: not in `B-cell`, `B.C.`, `B's`, `C major`, nor the article in `A dog`."""

_TOKEN = rf"(?:\(\s?[A-Za-z]\s?\)|(?<!{WORD})[A-Za-z](?!{WORD}|')|{_C})"
_NO_PRONOUN = rf"(?!\b[Ii]\b){_TOKEN}"

# Options that a text denies.

# Words that may stand between a negation and the option that it denies.
_FUNCTION_WORD = _any(
    "the an? any in on at be been by as it is that this to option choice answer letter say choose chosen pick select "
    "think call called have has see shows? contains? looks? like seem really necessarily likely just"
)
_NOT_BEFORE = _any(
    r"not never no neither nor cannot \w+n't rather_than instead_of other_than except except_for exclud(?:e|es|ing) "
    "eliminat(?:e|es|ing) rul(?:e|es|ing)_out"
)
_NOT_AFTER = _any(
    "not wrong incorrect false too impossible excluded eliminated ruled_out out unlikely neither n't cannot"
)
_ONE = _any("option choice one")
_ADVERB = _any(r"\w+ly also just")
_DOES_NOT = _any(r"\w+n't cannot (?:does|did|do|could|would|can)_not")
_ARE = _any("is are was were seems? looks? would_be must_be can_be")
DENIED = Form(
    rf"(?:\b(?:(?P<verb>{_any('is are was were')})n't|{_NOT_BEFORE})(?:\s+{_FUNCTION_WORD}\b){{0,4}}\s*"
    r"|(?:不是|不选|不应选|并非|非|排除)\s*(?:选项)?\s*)"
    rf"{_TOKEN}(?:(?:,\s*{_TOKEN})*,?\s+(?i:or|nor)\s+(?:{_FUNCTION_WORD}\s+)?{_TOKEN})*"
    rf"(?P<but>,?\s+(?i:but)\s+(?:{_any('rather instead is')}\s+)?(?={_TOKEN}))?"
    rf"|\b(?:{_any('both')}\s+)?{_NO_PRONOUN}(?:,\s*{_TOKEN})*,?\s+(?i:and)\s+{_TOKEN}\s+{_any('are were seem')}\s+"
    rf"(?:{_any('both all')}\s+)?(?:{_ADVERB}\s+)?{_NOT_AFTER}\b"
    rf"|{_NO_PRONOUN}\s+(?:{_ONE}\s+)?{_ARE}\s+(?:{_ADVERB}\s+)?{_NOT_AFTER}\b"
    rf"|{_NO_PRONOUN}\s+{_DOES_NOT}\b"
    rf"|{_NO_PRONOUN}\s*[-:]\s*{_any('no wrong incorrect false')}\b"
    rf"|{_NO_PRONOUN}\s*(?:选项)?\s*(?:是|为)?(?:错|不)"
)
"""Options that a text says are not the answer; `not A but` and `isn't A but` are denied without what follows."""

# Options that are declared to be the answer.

# Nouns for the option that is declared to be the answer.
_ANSWER_NOUN = _any(
    "answers? choice option pick guess solution antwort respuesta réponse risposta resposta ответ"
)
# Words that may stand between the noun and the verb, as in "the answer to this question is".
_OF = _any(
    "to for of in among from here above below the this that these those your my question problem options? choices? "
    "letter image picture given provided correct correcta correcte best most therefore then thus clearly definitely "
    "obviously probably likely"
)
# The verb or the mark that links the noun to the option: "is", a colon, an arrow, a new line.
_IS = (
    r"(?:[\s*]*[:=→]|\s*[-=]+>|\s+-(?=\s)|[ \t]*\n|'s\b|\s*(?:应该是|应为|应选|是|为|為|は|은|는)"
    rf"|\s+{_any('is are would_be should_be must_be will_be has_to_be est ist lautet es è é')}\b)"
)
_CHOOSE = _any("choose choosing chose pick picking select selecting go_with going_with opt_for vote_for")
_WOULD = _any("would will can must do therefore strongly also most still")
_IT_IS = _any("it_is it's it_must_be")
_SAY = _any("say think believe guess conclude answer answer_with")
DECLARED_BEFORE = Form(
    rf"(?:(?P<final>\b{_any('final revised corrected')}[ \t]+))?"
    rf"(?:(?<!{WORD})(?:{_ANSWER_NOUN}|答案|答え|正解|정답)(?:\s+{_OF}\b)*{_IS}"
    rf"|(?P<revised>(?<!{WORD}){_any('wait actually correction sorry no')}\s*[,:])"
    rf"|(?<!{WORD})(?i:ans)[.:=]"
    rf"|(?<!{WORD}){_CHOOSE}\b"
    rf"|(?<!{WORD})(?i:I|we)(?:\s+{_WOULD})*(?i:'d|'ll)?\s+{_SAY}\b(?:\s+(?i:that))?(?:\s+{_IT_IS})?"
    r"|选(?:择)?(?=\s*\(?[A-Z]))"
)
"""Words before an option that declare it to be the answer."""

_LINKS = _any(
    "that so think believe say because and but then hence thus therefore option choice answer letter since"
)
_RIGHT = _any("correct right best true accurate appropriate answer option choice one")
DECLARED_AFTER = Form(
    rf"(?:^|[.,:;!?\n(]\s*|选项\s*|\b{_LINKS}\s+)(?P<token>{_TOKEN})\)?\s*(?:(?:{_ONE}\s+)?"
    rf"{_any('is was would_be must_be seems looks seems_to_be')}\s+(?:(?i:\w+ly)\s+)?(?:{_any('the my our')}\s+)?"
    rf"(?:{_any('most only single final best correct right')}\s+)*{_RIGHT}\b|(?:选项)?(?:是)?(?:正确|对))",
    re.MULTILINE,
)
"""An option, and words after it that declare it to be the answer."""

_LAST = _any(
    "wait actually correction sorry so therefore thus hence overall finally in_conclusion in_summary no"
)
FINAL = Form(rf"\b{_LAST}\b[,:.!\s]*(?:\w+\s+){{0,2}}$")
"""Words before a declaration that make it take precedence over earlier ones."""

SENTENCES = Form(r"\n|[.!?]\s+")
CLAUSES = Form(rf"[.,:;!?\n]|\b{_any('so then but therefore hence thus')}\b")
HYPOTHETICAL = Form(
    rf"\b{_any('if whether unless suppose supposing assume assuming doubts? deny denies why wrong false untrue')}\b"
    rf"|\b{_any('incorrect worst (?<!at_)least second_best unable refuse hesitate reluctant might may could')}\b"
    rf"|(?i:\bnot\s+(?:the|an?)\s+(?:\w+\s+)?$)"
    rf"|\b{_any('people others they someone everyone some many most students experts')}\s+(?:\w+\s+)?"
    rf"(?:{_any('say says said think thinks thought believe believes claim claims argue assume guess answer')}\b|$)"
    rf"|(?i:n't|\bnot|\bnever|\bcannot)\s+(?:\w+\s+){{0,2}}"
    rf"{_any('think believe say claim mean sure certain true case agree that conclude guess answer know')}\b"
)
"""Words in the clause before a declaration that negate or question it."""

CONDITION = Form(r",?\s+(?i:if|unless)\b")
"""What follows an option that would be the answer only under a condition, as in "would be B if"."""

FILLER = Form(
    r"(?:[\s:,\-=>→*]|\((?!\s?[A-Za-z]\s?\)))+|"
    + _any(
        "therefore thus then clearly definitely obviously probably likely most indeed simply just actually surely "
        "certainly the an? option choice letter answer that it's it is following one to_be 选项"
    )
    + rf"(?!{WORD})"
)
"""What may come between a declaration and its option."""

_MAYBE = _any("maybe perhaps possibly option choice even the an? both also it_is it's is")
ALTERNATIVE = Form(
    rf"[ \t(]*(?:[,.;?!]?[ \t]*{_any('and/or and or to versus vs oder und et ou y')}\b|[,/&+;|?-]|或者?|和|还是)"
    rf"[\s(]*(?:{_MAYBE}\s+){{0,2}}"
    r"|[ \t]+|(?=\()"
)
"""What joins an option to another one that is stated with it."""

OR_LETTER = Form(rf"[ \t,]*(?i:or)\s+([B-HJ-Z])(?!{WORD}|')")

# Options without a declaration.

LEADING = Form(
    r"[\s>#*•·:.-]*(?:\d{1,2}[.)]\s+)?"
    rf"(?:{_any('assistant ai model response output')}\s*:\s*)?(?:{_any('yes sure okay ok certainly')}\s*[,.:!]\s*)?"
    rf"(?:{_any('definitely probably certainly clearly surely likely most_likely')}[,:]?\s+(?:(?i:to be)\s+)?)?"
    rf"(?:{_any('option choice letter answer')}\s*:?\s*)?"
)
LED = Form(rf"\s*(?:\Z|\n|\?\s*\Z|[.,:;!)/(-]|{_any('because since due as')}\b|{_C})")
"""What follows an option at the start of an answer."""

LISTED = Form(rf"(?:^|\s)(?:([A-Z])[.):](?=\s)|\(([A-Z])\)(?=\s*(?:{_C}|\w)))", re.MULTILINE)
"""A letter in the style of a list of options."""

MENTIONED = Form(
    rf"(?<!{WORD})(?:(?:{_any('option choice letter answer')}|选项)\s*(?=\(?[A-Z])"
    rf"|{_any('it this that')}(?:'s|\s+{_any('is must_be should_be would_be has_to_be')})\b"
    rf"|{_any('so therefore thus hence')}\b)"
)
_CANNOT = _any("cannot can't can_not am_unable don't_know do_not_know")
_UNKNOWN = _any(
    "(?:cannot|can't)_be_(?:determined|answered) not_enough_information answer_is_(?:un\\w+|not_clear)"
)
UNDECIDED = Form(
    rf"\b{_any('either both all_of_the any_of_the none_of neither unable_to_(?:determine|answer|tell|see)')}\b"
    rf"|\b(?i:I|we) {_CANNOT}\b|{_UNKNOWN}"
)
"""Words of an undecided answer, whose mentioned options do not count."""

# Marked-up parts of a text: reasoning, and answers in a box, a tag or JSON.

REASONING = Form(r"</?(?i:think|thinking|thought|reasoning)>")
BOX = Form(r"\\(?:boxed|fbox)\s*\{")
TAG = Form(r"<(?i:(?:final_?)?(?:answer|choice|option))>")
TAG_END = Form(r"</(?i:(?:final_?)?(?:answer|choice|option))>")
_KEY = r"(?i:(?:final|correct|selected|predicted)?[ _]?(?:answer|choice|option|label|letter|prediction))"
JSON_KEY = Form(rf"[\"']{_KEY}[\"']\s*:\s*")

GRAMMAR = frozenset(
    {
        "the",
        "a",
        "an",
        "is",
        "are",
        "was",
        "be",
        "or",
        "and",
        "it",
        "that",
        "this",
        "not",
        "because",
        "so",
        "i",
    }
    | {"answer", "option", "choice"}
)
"""Options that are function words: they only count if they are the whole answer."""

_STYLED = Form("[\uff01-\uff5e\u249c-\u24e9\U0001d400-\U0001d7ff]")
_MARKS = str.maketrans(
    {
        mark: f"{plain} "
        for mark, plain in zip("\u3002\u3001\u0964\u06d4\u060c\u061b\u061f", ".,..,;?", strict=True)
    }
    | {"\u2014": " - "}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u02bc", "'")
    | dict.fromkeys('\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d\u300e\u300f"`$', "")
    | dict.fromkeys("[{\u3010\u3014\u3008\u300a", "(")
    | dict.fromkeys("]}\u3011\u3015\u3009\u300b", ")")
)
"""Maps punctuation of other scripts, dashes, quotation marks and brackets to plain ones."""
_LATEX = Form(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|bf|rm|mathit)\s*\{([^{}]*)\}")
_LONE_QUOTED = Form(r"'([A-Za-z])'|<([A-Za-z])>")


def cleaned(text: str) -> str:
    r"""A text in plain punctuation, without mark-up and end tokens: `**[B]**` and `$\text{(B)}$` become `(B)`."""
    plain = _STYLED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    plain = "".join(letter for letter in plain if unicodedata.category(letter) not in ("Cf", "Co", "Cs"))
    plain = re.sub(r"</?s>|<\|\w+\|>|\\[()\[\]]", "", plain)
    plain = re.sub(r"\\(?=[.!*_#>~|-])", "", plain)  # escapes of Markdown
    plain = _LATEX.sub(r"\1", plain).translate(_MARKS)
    plain = re.sub(r"\*+|__+|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)", "", plain)
    # No runs of spaces, so that patterns with optional spaces stay linear in the length of the text.
    plain = re.sub(r"(?: ?\n)+ ?", "\n", re.sub(r"[^\S\n]+", " ", plain.replace("\r", "\n")))
    return _LONE_QUOTED.sub(lambda found: found[1] or f"({found[2]})", plain)
