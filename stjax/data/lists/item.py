"""What a list of videos says, whatever its format."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from stjax.errors import UserError

# As a list writes it: its number, or its name.
Label = int | str


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One video of a list.

    Attributes:
      path: relative to the folder of the videos: a file, or a folder of frames. The
        ending may be missing or another one than the file's.
      labels: its classes: one, or with several labels any number.
      length: frames of a folder of frames, if the list tells.
      pattern: their names in the folder, such as ``"img_{:05d}.jpg"``; None: all
        images of the folder, sorted.
      first: the number of the first one.
      files: the frames one by one, relative to the folder of the videos, if their names
        have no pattern.
      spans: (begin, end, label), each the stretch of the video where a label holds,
        without ``end``; in frames, or in seconds.
      seconds: the unit of ``spans``.
    """

    path: str
    labels: tuple[Label, ...]
    length: int | None = None
    pattern: str | None = None
    first: int = 1
    files: tuple[str, ...] = ()
    spans: tuple[tuple[float, float, Label], ...] = ()
    seconds: bool = False


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a list says.

    Attributes:
      items: its videos.
      classes: their names, in the order of the numbers; None: the list has numbers
        only, or names without an order.
      multi_label: a video may have any number of classes.
      folder: of the videos, in the data set, as the format has it.
      source: what was read, to name it in errors.
    """

    items: list[Item]
    classes: tuple[str, ...] | None = None
    multi_label: bool = False
    folder: str = ""
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Request:
    """What to read.

    Attributes:
      root: the folder of the data set.
      split: ``"train"``, ``"validation"`` or ``"test"``.
      files: split -> the list that the user named.
      prefix: the folder of the videos that the user named.
      fold: which of several official splits.
      fractions: of train, validation and test where the data has no splits.
    """

    root: Path
    split: str = "train"
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    prefix: str | None = None
    fold: int = 1
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)

    @property
    def named(self) -> Path | None:
        """The list that the user named for this split."""
        name = self.files.get(self.split)
        if name is None and self.split == "test":
            name = self.files.get("validation")
        return None if name is None else self.root / Path(name).expanduser()

    def find(self, *names: str) -> Path:
        """The named list, or the first of the usual ones that is there.

        Raises:
          UserError: if there is none.
        """
        if self.named is not None:
            if self.named.exists():
                return self.named
            raise UserError(
                f"data.{self.split}_list {self.named} does not exist; give it relative"
                " to data.path, or in full"
            )
        for name in names:
            if (self.root / name).exists():
                return self.root / name
        raise UserError(
            f"{self.root}: expected {' or '.join(names)}; set data.path, or"
            f" data.{self.split}_list to the list"
        )

    def folder(self, *names: str) -> str:
        """The first of the usual folders of videos that is there."""
        if self.prefix is not None:
            return self.prefix
        return next((n for n in names if (self.root / n).is_dir()), "")


def wrong_line(file: Path, number: int, line: str, expected: str) -> UserError:
    """The error of a line of a list (numbered from 1)."""
    shown = line if len(line) <= 80 else line[:77] + "..."
    return UserError(
        f"{file}, line {number}: expected {expected}, got {shown!r}; correct the list,"
        " or set data.format to its format"
    )


def read_lines(file: Path) -> list[tuple[int, str]]:
    """(line number, line) of the lines that are not empty.

    Raises:
      UserError: if it is not a readable text.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {file}: {error}") from error
    lines = enumerate(text.splitlines(), 1)
    return [(k, line.strip("\r\n")) for k, line in lines if line.strip()]


def usual(split: str, names: Sequence[str]) -> list[str]:
    """File names of a split from templates; the test falls back on validation."""
    spelled = {"train": ("train",), "validation": ("val", "validation")}
    spelled["test"] = ("test", *spelled["validation"])
    return [name.format(s) for s in spelled[split] for name in names]
