"""The command `octavius`, or `python -m octavius`, comes in, the command line runs."""

import warnings

# torch_geometric calls it while it is imported, so that it would stand above every command's own words.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)

from octavius.cli import main  # noqa: E402 - not before the filter

if __name__ == "__main__":
    main()
