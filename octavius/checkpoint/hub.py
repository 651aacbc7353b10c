"""Uploads exported folders to the Hugging Face Hub."""

from pathlib import Path
from typing import NoReturn

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils._validators import validate_repo_id

from octavius.display import visible


def check_login(name: str) -> None:
    """Checks, before anything is exported, that a repository of this name could be written.

    Args:
        name: repository, with its owner: `user/model`.

    Raises:
        ValueError: the name is no name of a repository, nobody is logged in, or the Hub cannot be reached.
    """
    try:
        validate_repo_id(name)
        valid = "/" in name
    except HFValidationError:
        valid = False
    if not valid:
        raise ValueError(
            "--push-to-hub should be the owner and the name of a repository, such as user/model, of letters, digits, "
            f"'-', '_' and '.', at most 96 each; found {visible(name, 100)!r}"
        )
    try:
        HfApi().whoami()
    except Exception as error:
        _refuse(name, error)


def push(folder: Path, name: str) -> str:
    """Uploads a folder as one commit; the repository is made if needed, as a private one.

    Args:
        folder: the exported folder.
        name: repository, with its owner.

    Returns:
        The address of the repository.

    Raises:
        ValueError: it cannot be made or written; the folder stays.
    """
    api = HfApi()
    try:
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload an export of Octavius")
    except Exception as error:
        _refuse(name, error, f"; the export is in {folder}")
    return str(address)


def _refuse(name: str, error: Exception, more: str = "") -> NoReturn:
    """Raises an error for the user; errors that are not of the Hub or the network propagate."""
    kind = type(error).__name__
    status = (
        error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else 0
    )
    if kind == "LocalTokenNotFoundError" or status == 401:
        reason = "nobody is logged in, or the token is wrong; run `hf auth login`, or set HF_TOKEN"
    elif isinstance(error, OfflineModeIsEnabled):
        reason = "the Hub is switched off by HF_HUB_OFFLINE; unset it"
    elif status == 403:
        reason = (
            "this token may not write there; name a repository of your own, or take a token that may write"
        )
    elif isinstance(error, HfHubHTTPError | OSError) or "httpx" in type(error).__module__:
        reason = f"the Hub cannot be used ({kind}: {' '.join(str(error).split())[:200]})"
    else:
        raise error
    raise ValueError(f"not pushed to {name}: {reason}{more}") from None
