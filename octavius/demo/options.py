"""The options of `octavius demo`, kept apart so that printing them imports neither PyTorch nor Gradio."""

from octavius.options import OptionParser

LOOPBACK = "127.0.0.1"


def parser() -> OptionParser:
    """The argument parser of the command."""
    option_parser = OptionParser(
        prog="octavius demo",
        description="Opens a page on this machine to ask a checkpoint about pictures and scans: a chat, boxes drawn "
        "on what it points at, the weights of its experts beside each answer, and what other experts would say. "
        "Needs the extra demo: pip install 'octavius[demo]'",
    )
    option_parser.add_argument(
        "--ckpt",
        default="last.ckpt",
        help="a checkpoint of `octavius fit` with its configuration next to it, or a folder of `octavius export` "
        "(default: last.ckpt)",
    )
    option_parser.add_argument("--against", help="a second one, which a tab compares with the first")
    option_parser.add_argument(
        "--host", default=LOOPBACK, help=f"address to listen on (default: {LOOPBACK}, this machine alone)"
    )
    option_parser.add_argument(
        "--port", type=int, default=7860, help="port to listen on; 0 takes a free one (default: 7860)"
    )
    option_parser.add_argument(
        "--share",
        action="store_true",
        help="also make a public address through a server of Gradio's, which everyone who has it can use",
    )
    option_parser.add_argument(
        "--max-new-tokens",
        "--max_new_tokens",
        type=int,
        default=256,
        help="maximum length of an answer (default: 256)",
    )
    option_parser.add_argument(
        "--trust",
        action="store_true",
        help="let the configuration that came with a checkpoint name any class, which runs its code",
    )
    return option_parser
