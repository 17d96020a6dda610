"""PySlowFast's frame lists: one line a frame, with five columns."""

import re
from collections.abc import Iterator
from pathlib import Path

from stjax.data.lists.item import Item, Listing, Request, usual, wrong_line
from stjax.errors import UserError

# Sic: PySlowFast insists on "vido".
HEADER = "original_vido_id"
_NUMBERED = re.compile(r"^(.*?)(\d+)(\.\w+)$")
_LABELS = re.compile(r"\d+(,\d+)*")


def is_frame_list(file: Path) -> bool:
    """Whether a file begins as such a list does."""
    if not file.is_file():
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return lines.readline().startswith(HEADER)


class _Frames:
    """The frames of one video, as the lines come."""

    def __init__(self):
        self.paths: list[str] = []
        self._open: dict[int, int] = {}  # label -> the frame it began with
        self._spans: list[tuple[int, int, int]] = []

    def add(self, path: str, labels: set[int]) -> None:
        k = len(self.paths)
        self.paths.append(path)
        if not labels and not self._open:
            return
        for label in [x for x in self._open if x not in labels]:
            self._spans.append((self._open.pop(label), k, label))
        for label in labels - self._open.keys():
            self._open[label] = k

    def item(self) -> Item:
        """Short where the files are numbered: a list may have 20 million lines."""
        ends = [(begin, len(self.paths), x) for x, begin in self._open.items()]
        spans = tuple(sorted([*self._spans, *ends]))
        labels = tuple(sorted({span[2] for span in spans}))
        first, n = self.paths[0], len(self.paths)
        folder, _, name = first.rpartition("/")
        match = _NUMBERED.match(name)
        if match:
            before, digits, ending = match.groups()
            # A file name with braces is not a pattern.
            if not set("{}") & set(name):
                pattern = f"{before}{{:0{len(digits)}d}}{ending}"
                start = folder + "/" if folder else ""
                if all(
                    path == start + pattern.format(int(digits) + k)
                    for k, path in enumerate(self.paths)
                ):
                    return Item(folder, labels, n, pattern, int(digits), spans=spans)
        return Item(folder, labels, n, files=tuple(self.paths), spans=spans)


def read_videos(file: Path) -> Iterator[tuple[str, Item]]:
    """(id, video) of a frame list; a label is a number, and holds for some frames."""
    videos: dict[str, _Frames | Item] = {}
    last, expected = None, f"'{HEADER} video_id frame_id path labels'"
    try:
        with file.open(encoding="utf-8-sig") as lines:
            head = lines.readline()
            if not head.startswith(HEADER):
                raise wrong_line(file, 1, head.strip(), f"the header {expected}")
            for number, line in enumerate(lines, 2):
                fields = line.split()
                if not fields:
                    continue
                labels = fields[-1].strip('"')
                if len(fields) != 5 or (labels and not _LABELS.fullmatch(labels)):
                    raise wrong_line(file, number, line.strip(), expected)
                name = fields[0]
                if name != last and isinstance(videos.get(last), _Frames):
                    videos[last] = videos[last].item()
                last = name
                frames = videos.setdefault(name, _Frames())
                if isinstance(frames, Item):
                    raise wrong_line(
                        file, number, line.strip(), "the frames of a video together"
                    )
                frames.add(
                    fields[3], set(map(int, labels.split(","))) if labels else set()
                )
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {file}: {error}") from error
    for name, video in videos.items():
        yield name, video if isinstance(video, Item) else video.item()


def frame_list(request: Request) -> Listing:
    """``train.csv``, ``val.csv`` with the header and a line for each frame.

    A video has all labels of its frames.
    """
    file = request.find(*usual(request.split, ["{}.csv"]))
    items = [item for _, item in read_videos(file)]
    return Listing(items, None, True, request.folder(), str(file))
