"""Folders of `stjax.export.to_folder` on the Hugging Face Hub: ``hf://org/name``."""

import contextlib
import importlib.util
import os
import re

from etils import epath

from stjax.errors import UserError

SCHEME = "hf://"
_FILES = ["config.json", "model.safetensors", "README.md", "results.json"]
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def download(address: str) -> epath.Path:
    """The files of a model, in the Hub's cache on this machine.

    Args:
      address: ``hf://org/name``, or ``hf://org/name@revision`` of a branch, tag or
        commit.

    Raises:
      UserError: there is no such model, it is private, or the Hub cannot be reached.
    """
    repo, revision = _parts(address)
    hub = _client()
    with _told(hub, address):
        path = hub.snapshot_download(
            repo, revision=revision, allow_patterns=_FILES, endpoint=_endpoint()
        )
    return epath.Path(path)


def push(folder: str | epath.Path, address: str, *, private: bool = False) -> str:
    """Uploads a folder of `to_folder`; the model is created if need be.

    Args:
      folder: of `to_folder`.
      address: ``hf://org/name``, or with ``@branch``.
      private: whether a new model is private.

    Returns:
      Where it can be seen.

    Raises:
      UserError: no right to write there, or the Hub cannot be reached.
    """
    from stjax.export.folder import is_folder

    repo, revision = _parts(address)
    if not is_folder(epath.Path(folder)):
        raise UserError(f"{folder} is no exported folder; write one with to_folder")
    hub = _client()
    api = hub.HfApi(endpoint=_endpoint())
    with _told(hub, address, writing=True):
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=str(folder),
            revision=revision,
            allow_patterns=_FILES,
            commit_message="Upload with stjax",
        )
    return str(url)


def _parts(address: str) -> tuple[str, str | None]:
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise UserError(f"{address!r} is not hf://ORG/NAME or hf://ORG/NAME@REVISION")
    return match[1], match[2]


def _endpoint() -> str | None:
    """Of a mirror, asked for now: the client only looks when it is imported."""
    return os.environ.get("HF_ENDPOINT")


def _client():
    if not importlib.util.find_spec("huggingface_hub"):
        raise UserError("hf:// needs huggingface_hub: pip install 'stjax[hub]'")
    import huggingface_hub
    import huggingface_hub.errors

    return huggingface_hub


@contextlib.contextmanager
def _told(hub, address: str, writing: bool = False):
    """What the client reports, in a line."""
    errors, login = hub.errors, "log in: hf auth login"
    try:
        yield
    except errors.GatedRepoError:
        why = f"asks you to accept its terms; do so on its page, then {login}"
    except errors.RevisionNotFoundError:
        why = "has no such branch, tag or commit"
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        missing = isinstance(error, errors.RepositoryNotFoundError)
        if writing and (missing or status in (401, 403)):
            why = f"cannot be written by you; with a token that may, {login}"
        elif missing:
            why = f"does not exist or is private; check the name, or {login}"
        else:
            why = f"failed: {_line(error)}"
    except (OSError, errors.HFValidationError, RuntimeError) as error:
        why = f"cannot be reached: {_line(error)}"
    else:
        return
    raise UserError(f"{address} {why}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
