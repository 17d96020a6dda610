"""Kinetics on miniature lists and videos."""

import av
import numpy as np
import pytest

from stjax.data.sources import open_source
from stjax.errors import UserError

RNG = np.random.default_rng(0)


def write_video(path, n):
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(n):
            frame = np.full((64, 96, 3), 16 + 4 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "annotations").mkdir()
    for name, videos in (("train", "ab"), ("val", "c"), ("test", "d")):
        lines = ["label,youtube_id,time_start,time_end,split"]
        for k in videos:
            lines.append(f"jumping,{k}-id,{3},{13},{name}")
            write_video(tmp_path / name / f"{k}-id_000003_000013.mp4", 40)
        (tmp_path / "annotations" / f"{name}.csv").write_text("\n".join(lines))
    return tmp_path


def numbers(clip):
    video = np.concatenate([clip["input"], clip["target"]]).astype(float)
    assert video.shape == (8, 32, 32, 3)
    return np.rint((video.mean((1, 2, 3)) - 16) / 4).astype(int).tolist()


def test_clips(folder):
    test = open_source("kinetics", "test", path=folder, size=32)
    assert numbers(test.clip(0, RNG)) == list(range(0, 16, 2))
    train = open_source("kinetics", path=folder, size=32)
    starts = set()
    for k in range(12):
        got = numbers(train.clip(k % 2, np.random.default_rng(k)))
        assert np.diff(got).tolist() == [2] * 7
        starts.add(got[0])
    assert len(starts) > 4 and max(starts) <= 40 - 15
    long = open_source("kinetics", "validation", path=folder, size=32, frame_step=8)
    assert numbers(long.clip(0, RNG)) == [0, 8, 16, 24, 32, 39, 39, 39]
    np.testing.assert_allclose(np.divide(train.spec.offset, 255), (0.485, 0.456, 0.406))


def test_missing_and_damaged_videos(folder):
    (folder / "train" / "a-id_000003_000013.mp4").write_bytes(b"nothing")
    source = open_source("kinetics", path=folder, size=32)
    with pytest.raises(UserError, match="cannot read .*a-id"):
        source.clip(0, RNG)
    numbers(source.clip(1, RNG))
    (folder / "train" / "a-id_000003_000013.mp4").unlink()
    with pytest.raises(UserError, match="no such file"):
        open_source("kinetics", path=folder)
    source = open_source("kinetics", path=folder, skip_unreadable=True)
    assert len(source) == len(source.skipped) == 1
    (folder / "annotations" / "val.csv").write_text("name\na\n")
    with pytest.raises(UserError, match="expected columns"):
        open_source("kinetics", "validation", path=folder)
