"""Wordings of the template questions and answers, and helpers for English nouns."""

from octavius.tasks.base import named

QuestionAnswer = tuple[str, str]
"""A question and its answer."""

CLASSIFICATION: tuple[QuestionAnswer, ...] = (
    ("What is the main object in this picture?", "{name}"),
    ("Name the object that this picture is mostly about.", "{name}"),
    ("Which object takes up most of the picture?", "It is {a_name}."),
    ("What does this picture mainly show?", "It mainly shows {a_name}."),
)

COUNTING: tuple[QuestionAnswer, ...] = (
    ("How many {names} are there?", "{number}"),
    ("How many {names} can you see?", "{number}"),
    ("Count the {names}.", "{number}"),
    ("What is the number of {names}?", "There are {number}."),
)

PRESENCE: tuple[QuestionAnswer, ...] = (
    ("Are there any {names}?", "{yes}"),
    ("Can you see any {names}?", "{yes}"),
    ("Do you see {names} here? Answer yes or no.", "{yes}"),
    ("Tell me whether there are any {names}.", "{yes}, there are {some} {names}."),
)

PLACE: tuple[QuestionAnswer, ...] = (
    ("Where is the {name}?", "At the {place} of the picture."),
    ("In which part of the picture is the {name}?", "The {name} is at the {place}."),
    ("Say where in the picture the {name} is.", "The {name} is at the {place} of the picture."),
)

SIDE: tuple[tuple[QuestionAnswer, ...], ...] = (
    (
        ("Is the {first} left or right of the {second}?", "{side}"),
        ("On which side of the {second} is the {first}, left or right?", "The {first} is on the {side}."),
    ),
    (
        ("Is the {first} above or below the {second}?", "{side}"),
        ("Is the {first} higher or lower in the picture than the {second}?", "It is {side} the {second}."),
    ),
)
"""By axis: horizontal, then vertical."""

NAMING: tuple[QuestionAnswer, ...] = (
    ("What is this object?", "This is {a_name}."),
    ("Which class is this object?", "{name}"),
    ("Name this object.", "{name}"),
    ("What kind of thing is this?", "It is {a_name}."),
    ("What do you call this object?", "It is called {a_name}."),
)

ON: tuple[QuestionAnswer, ...] = (
    ("What is on the {name}?", "{things}"),
    ("What stands or lies on the {name}?", "On the {name} there is {things}."),
    ("Name what is on top of the {name}.", "{things}"),
)

CLOSEST: tuple[QuestionAnswer, ...] = (
    ("What is closest to the {name}?", "The {thing}."),
    ("Which object is nearest to the {name}?", "{thing}"),
    ("Name the object that stands closest to the {name}.", "{thing}"),
)

PLURALS = {
    "person": "people",
    "mouse": "mice",
    "knife": "knives",
    "shelf": "shelves",
    "bookshelf": "bookshelves",
    "sheep": "sheep",
    "broccoli": "broccoli",
    "man": "men",
    "woman": "women",
    "child": "children",
    "tv": "tvs",
}


def is_plural(name: str) -> bool:
    """Whether a class has a plural name, such as `scissors` or `kitchen cabinets`."""
    return name.endswith("s") and not name.endswith(("ss", "us"))


def plural(name: str) -> str:
    """The plural of a class name.

    >>> [plural(name) for name in ("bus", "dining table", "person", "wine glass", "scissors", "toothbrush", "berry")]
    ['buses', 'dining tables', 'people', 'wine glasses', 'scissors', 'toothbrushes', 'berries']
    """
    before, space, last = name.rpartition(" ")
    if last in PLURALS:
        return f"{before}{space}{PLURALS[last]}"
    if is_plural(name):
        return name
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


def with_article(name: str) -> str:
    """A class name with its indefinite article.

    >>> [with_article(name) for name in ("oven", "dog", "scissors")]
    ['an oven', 'a dog', 'scissors']
    """
    if is_plural(name):
        return name
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def listed(words: list[str]) -> str:
    """Joins words with commas and "and".

    >>> listed(["a cup", "a book", "a lamp"])
    'a cup, a book and a lamp'
    """
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def mentioned(text: str, names: tuple[str, ...]) -> set[str]:
    """The classes that a text names, in singular or plural; "hot dog" does not count as "dog".

    >>> sorted(mentioned("Two hot dogs beside a cup.", ("cup", "dog", "hot dog")))
    ['cup', 'hot dog']
    """
    words = text.casefold()
    forms = {form: name for name in names for form in (plural(name), name) if form.casefold() in words}
    spelled = list(forms)
    return {forms[spelled[index]] for index in named(text, spelled)}
