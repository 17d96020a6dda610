"""Random access to video frames equals decoding the whole file in order."""

import pickle

import av
import numpy as np
import pytest

from stjax.data import video
from stjax.data.reading import Skips
from stjax.data.sources.files import Files
from stjax.data.video import VideoReader, index_video
from stjax.errors import UserError

RNG = np.random.default_rng(0)


def write_video(path, frames, codec="libx264", **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def whole(path):
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(frames)


def moving(n=60, height=48, width=64):
    y, x = np.mgrid[:height, :width]
    frames = [
        np.stack([127 + 120 * np.sin(x / 5 + k), 4 * k + y, x + y + k], -1) % 256
        for k in range(n)
    ]
    return np.asarray(frames).astype(np.uint8)


B_FRAMES = {"g": "12", "bf": "3", "b_strategy": "0", "sc_threshold": "0"}
OPEN_GOP = {**B_FRAMES, "x264-params": "open-gop=1:bframes=3:b-pyramid=2"}


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("closed.mp4", "libx264", B_FRAMES),
        ("open.mp4", "libx264", OPEN_GOP),
        ("open.mkv", "libx264", OPEN_GOP),
        ("old.avi", "mpeg4", {"g": "10"}),
        ("old.mpg", "mpeg1video", {"g": "10", "bf": "2"}),
    ],
)
def test_windows_equal_decoding_everything(tmp_path, name, codec, options):
    path = tmp_path / name
    write_video(path, moving(), codec, **options)
    frames = whole(path)
    index = index_video(path)
    assert index.length == len(frames) and index.size == (48, 64)
    for start in RNG.permutation(50)[:25]:
        window = range(int(start), int(start) + 10, 3)
        reader = VideoReader([path], Skips(False))  # nothing is cached
        got = reader.read(0, window, lambda frame: frame)
        np.testing.assert_array_equal(got, frames[window.start : window.stop : 3])


def test_the_cache_and_pickling_change_nothing(tmp_path):
    write_video(tmp_path / "a.mp4", moving(), **B_FRAMES)
    frames = whole(tmp_path / "a.mp4")
    source = Files(path=tmp_path / "a.mp4", t_in=3, t_out=2)
    for k in RNG.permutation(len(source))[:20]:
        clip = source.clip(int(k), RNG)
        np.testing.assert_array_equal(clip["input"], frames[k : k + 3])
    blob = pickle.dumps(source)
    assert len(blob) < 20_000
    clip = pickle.loads(blob).clip(7, RNG)
    np.testing.assert_array_equal(clip["target"], frames[10:12])


@pytest.mark.parametrize("name", ["a.mp4", "a.mpg"])
@pytest.mark.parametrize("cache", [1, 64 << 20])
def test_going_on_from_the_last_read_changes_nothing(
    tmp_path, monkeypatch, name, cache
):
    monkeypatch.setattr(video, "_CACHE_BYTES", cache)
    codec = {"a.mp4": "libx264", "a.mpg": "mpeg1video"}[name]
    write_video(tmp_path / name, moving(), codec, **OPEN_GOP)
    frames = whole(tmp_path / name)
    reader = VideoReader([tmp_path / name], Skips(False))
    starts = [0, 2, 4, 4, 7, 30, 31, 33, 5, 20, 50, 54, 0, 55]
    for start in starts:
        got = reader.read(0, range(start, start + 5), lambda frame: frame)
        np.testing.assert_array_equal(got, frames[start : start + 5])


def test_damaged_videos(tmp_path):
    write_video(tmp_path / "a.mp4", moving())
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "c.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read .*[bc]\.mp4") as error:
        Files(path=tmp_path, t_in=2, t_out=1)
    assert "\n" not in str(error.value)
    source = Files(path=tmp_path, t_in=2, t_out=1, skip_unreadable=True)
    assert len(source.skipped) == 2
    assert source.clip(0, RNG)["input"].shape == (2, 48, 64, 3)


def test_the_real_videos(reference):
    folder = reference / "data" / "videos"
    with pytest.raises(UserError, match="mixed frame sizes"):
        Files(path=folder)
    source = Files(path=folder, size=(32, 40), t_in=4, t_out=2, stride=5)
    # 132, 250 and 120 frames, of which the first 80 % train, in windows of 6.
    assert len(source) == sum((n - 6) // 5 + 1 for n in (106, 200, 96))
    assert source.clip(30, RNG)["target"].shape == (2, 32, 40, 3)
    path = folder / "carphone_pristine.mp4"
    frames = whole(path)
    source = Files("test", path=path, t_in=4, t_out=2)
    assert len(source) == 12 - 6 + 1
    np.testing.assert_array_equal(source.clip(3, RNG)["input"], frames[111:115])
