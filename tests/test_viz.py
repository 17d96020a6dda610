"""Pictures, and clips from and to files."""

import numpy as np
import pytest
from PIL import Image

from stjax import media, viz
from stjax.errors import UserError


def ramp(frames, height=8, width=8, channels=1):
    size = frames * height * width * channels
    return np.linspace(0, 1, size).reshape(frames, height, width, channels)


def test_colour_rules():
    grey = viz.colour(np.array([[0.0], [0.5], [1.0], [2.0], [np.nan]]))
    assert grey[:4].tolist() == [[0] * 3, [128] * 3, [255] * 3, [255] * 3]
    assert grey[4].tolist() == [190] * 3
    assert viz.colour(np.array([[255, 0, 128]], np.uint8), (0, 255)).tolist() == [
        [255, 0, 128]
    ]
    two = viz.colour(np.array([[0.0, 1.0]]))  # viridis of the first channel
    assert two.tolist() == [[68, 1, 84]]


def test_difference_is_blue_where_too_small_and_red_where_too_large():
    blue, white, red = viz.colour_difference(np.array([[-1.0], [0.0], [1.0]]), 1.0)
    assert blue[2] > blue[0] and red[0] > red[2]
    assert white.min() > 240


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("truth", [True, False])
def test_strip_has_a_row_for_each_kind(channels, truth):
    x, y = ramp(4, channels=channels), ramp(3, channels=channels)
    picture = viz.strip(x, y, y if truth else None)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    rows = 4 if truth else 2
    cell = 72 + 4
    assert rows * cell < picture.shape[0] < rows * cell + 110
    assert 4 * cell < picture.shape[1] < 4 * cell + 150


def test_strip_enlarges_by_whole_pixels():
    x = np.zeros((1, 8, 8, 1))
    x[0, 3, 5] = 1.0
    picture = viz.strip(x, x)
    white = (picture[:90] == 255).all(-1)
    black = (picture[:90] == 0).all(-1)
    top, left = np.argwhere(black).min(0)
    # 72 / 8 = 9: the pixel (3, 5) is a square of side 9
    block = white[top : top + 72, left : left + 72]
    assert block.sum() == 81
    assert block[27:36, 45:54].all()


def test_strip_of_a_long_clip_keeps_its_rows_aligned():
    x, y = ramp(12), ramp(50)
    short = viz.strip(x, y, y[:7])
    assert short.shape[1] < 11 * 76 + 150
    assert viz.strip(x, y[:2], y).shape[0] == viz.strip(x, y[:2], y[:2]).shape[0]


def test_strip_of_large_frames_and_of_missing_values():
    large = viz.strip(ramp(1, 480, 640), ramp(1, 480, 640))
    assert large.shape[1] < 350
    nothing = np.full((2, 8, 8, 1), np.nan)
    assert viz.strip(nothing, nothing, nothing, cmap="viridis").dtype == np.uint8
    with pytest.raises(UserError, match=r"expected \[T, H, W, C\]"):
        viz.strip(np.zeros((2, 8, 8)), nothing)


def test_animation_and_gif(tmp_path):
    x, y = ramp(3), ramp(2)
    frames = viz.animate(x, y, y)
    assert frames.shape[0] == 5
    viz.save_gif(tmp_path / "a.gif", x, y, y)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 5
        assert image.info["loop"] == 0
    viz.save_gif(tmp_path / "b.gif", x, y)


# --- clips from files


@pytest.fixture
def frames():
    grey = (255 * ramp(6, 32, 48)).astype(np.uint8)
    return np.repeat(grey, 3, -1)


def test_gif_and_video_come_back(tmp_path, frames):
    media.write_gif(tmp_path / "a.gif", frames, fps=10)
    clip = media.read_clip(tmp_path / "a.gif")
    assert clip.is_video and clip.frames.shape == frames.shape
    np.testing.assert_allclose(clip.frames, frames, atol=8)
    assert clip.fps == pytest.approx(10)
    media.write_mp4(tmp_path / "a.mp4", frames, fps=10)
    clip = media.read_clip(tmp_path / "a.mp4", limit=4)
    np.testing.assert_allclose(clip.frames.astype(int), frames[:4], atol=12)
    assert clip.fps == pytest.approx(10)


def test_arrays_come_back(tmp_path, frames):
    media.write_npy(tmp_path / "a.npy", frames)
    np.testing.assert_array_equal(media.read_clip(tmp_path / "a.npy").frames, frames)
    np.savez(tmp_path / "a.npz", clip=frames)
    np.testing.assert_array_equal(media.read_clip(tmp_path / "a.npz").frames, frames)
    np.savez(tmp_path / "b.npz", input=frames[:4], target=frames[4:])
    np.testing.assert_array_equal(media.read_clip(tmp_path / "b.npz").frames, frames)
    media.write_png(tmp_path / "a.png", frames[0])
    np.testing.assert_array_equal(Image.open(tmp_path / "a.png"), frames[0])


def test_a_video_is_cropped_resized_and_made_grey(frames):
    colour = frames.copy()
    colour[..., 0] = 255
    small, done = media.fit_video(colour, 16, 16, 1)
    assert small.shape == (6, 16, 16, 1)
    assert done == "cropped to the centre 32x32, resized to 16x16, made grey"
    same, done = media.fit_video(frames, 32, 48, 3)
    assert done == ""
    np.testing.assert_array_equal(same, frames)
    # box filter: the mean of 2x2 blocks
    small, _ = media.fit_video(frames, 16, 24, 1)
    mean = frames[..., :1].reshape(6, 16, 2, 24, 2, 1).mean((2, 4))
    np.testing.assert_allclose(small, mean, atol=1)
    with pytest.raises(UserError, match="takes 4"):
        media.fit_video(frames, 16, 16, 4)


def test_real_video(reference):
    clip = media.read_clip(reference / "data/videos/carphone_pristine.mp4", limit=5)
    assert clip.frames.shape == (5, 144, 176, 3)
    assert clip.fps == pytest.approx(29.97, abs=0.01)


def _cut(path, share=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


@pytest.mark.parametrize("suffix", ["npy", "npz", "gif", "mp4"])
def test_truncated_empty_and_corrupt_files(tmp_path, frames, suffix):
    path = tmp_path / f"clip.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (6, 32, 48, 3), np.uint8)
    if suffix == "npz":
        np.savez(path, noise)
    else:
        getattr(media, f"write_{suffix}")(path, noise)
    with pytest.raises(UserError, match="truncated or corrupt"):
        media.read_clip(_cut(path))
    path.write_bytes(b"this is no clip at all; " * 20)
    with pytest.raises(UserError, match="truncated or corrupt") as error:
        media.read_clip(path)
    assert "\n" not in str(error.value)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="the file is empty"):
        media.read_clip(path)


def test_a_video_cut_after_its_index(tmp_path, reference):
    # In this file the index comes first, so that ffmpeg opens what is left.
    for name in ("carphone_pristine.mp4", "bikes.mp4"):
        path = tmp_path / name
        path.write_bytes((reference / "data/videos" / name).read_bytes())
        with pytest.raises(UserError, match="truncated or corrupt"):
            media.read_clip(_cut(path, 0.5))


def test_wrong_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        media.read_clip(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"cannot read .txt; expected .npy"):
        media.read_clip(tmp_path / "a.txt")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        media.read_clip(tmp_path / "folder.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 8, 8)))
    with pytest.raises(UserError, match="no frames in it"):
        media.read_clip(tmp_path / "none.npy")
    np.save(tmp_path / "text.npy", np.array(["a"]))
    with pytest.raises(UserError, match="holds <U1, expected an array of numbers"):
        media.read_clip(tmp_path / "text.npy")
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(UserError, match=r"holds \['a', 'b'\], expected one array"):
        media.read_clip(tmp_path / "two.npz")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match="truncated or corrupt"):
        media.read_clip(tmp_path / "object.npy")
