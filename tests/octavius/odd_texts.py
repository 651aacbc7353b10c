"""Texts that may hide, break a table or a file name, or become markup."""

# fmt: off
ODD = (
    "$x$", "costs $5 or $6", r"$\frac{$", r"\$", "$$", r"\mathdefault", "a | b", "two\nlines", "tab\there", "nul\0l",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u202etxet", "\u200f\u200e", "\ud800", "\udcff half", "\U0001f600",
    "漢字 العربية", "x" * 100_000, "_hidden", "__", "<script>alert(1)</script>", "<b>", "&amp;", "=1+1", "+cmd", "-2",
    "@SUM(A1)", "../../up", "/", ".", "..", "a/b", " ", "%", "{}", "{0}", "*bold*", "[x](javascript:1)", "`", "#",
    "'",     '"', "\r", "\u2028", "\ufdfd" * 50,
)
# fmt: on
