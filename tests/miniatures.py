"""Miniature files of the data sets, in the formats that the sources read."""

import gzip
import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def moving_mnist(root: Path) -> None:
    """Files of Moving MNIST, Moving FashionMNIST and MNIST-CIFAR: 12 pictures."""
    head = struct.pack(">IIII", 0x803, 12, 28, 28)
    data = gzip.compress(head + pixels(12, 28, 28).tobytes())
    (root / "train-images-idx3-ubyte.gz").write_bytes(data)
    np.save(root / "mnist_test_seq.npy", pixels(20, 3, 64, 64))
    np.save(root / "fmnist_test_seq.npy", pixels(20, 3, 64, 64))
    np.save(root / "mnist_cifar_test_seq.npy", pixels(20, 3, 64, 64, 3))
    folder = root / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        batch = pickle.dumps({b"data": pixels(3, 3072)}, protocol=2)
        (folder / name).write_bytes(batch)


def taxibj(root: Path) -> None:
    """12 training and 3 test clips."""
    arrays = {
        f"{name}_{split}": RNG.uniform(-1, 1, (n, 4, 2, 32, 32)).astype("f4")
        for split, n in (("train", 12), ("test", 3))
        for name in "XY"
    }
    np.savez(root / "dataset.npz", **arrays)


def kth(root: Path) -> None:
    """Three persons, one for each split, 6 frames of each action."""
    actions = ("boxing", "handclapping", "handwaving", "walking", "jogging", "running")
    for action in actions:
        for person in (1, 16, 17):
            clip = root / action / f"person{person:02d}_{action}_d1_uncomp"
            clip.mkdir(parents=True)
            for n in range(1, 7):
                image = Image.fromarray(pixels(30, 40, 3))
                image.save(clip / f"image_{n:04d}.jpg")


def kitti_caltech(root: Path) -> None:
    """Windows of 3 frames: 4 in training, 2 in the test."""
    folder = root / "kitticaltech_npy"
    folder.mkdir()
    for split, n in (("train", 4), ("test", 2)):
        np.save(folder / f"{split}_data.npy", pixels(3 * n, 128, 160, 3))
        np.save(folder / f"{split}_idx.npy", 3 * np.arange(n))


def human(root: Path) -> None:
    """Three training scenes and a test scene, a clip of 8 frames each."""
    (root / "images").mkdir()
    lines = {"train": [], "test": []}
    for scene in ("S1_Eating", "S5_Sitting", "S6_Walking", "S11_Walking"):
        prefix = f"images/{scene}.60457274_"
        for k in range(8):
            image = Image.fromarray(pixels(40, 40, 3))
            image.save(root / f"{prefix}{1 + 5 * k:06d}.jpg")
        split = "test" if scene.startswith("S11") else "train"
        lines[split].append(f"{prefix},1,36\n")
    for split, text in lines.items():
        (root / f"{split}.txt").write_text("".join(text))


def write_video(path: Path, frames: np.ndarray, codec="mpeg4", rate=10, gop=12) -> None:
    """Frames [T, H, W, 3] as a video file."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"g": str(gop)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))


def video_folders(root: Path) -> None:
    """Three videos of two classes in train/, one of each in val/, 14 frames."""
    for place in (
        "train/walk/0",
        "train/walk/1",
        "train/run/0",
        "val/walk/2",
        "val/run/2",
    ):
        write_video(root / f"{place}.mp4", pixels(14, 40, 48, 3))


def labelled_videos(root: Path) -> None:
    """Lists of all known data sets, each with a video of two classes in each split."""
    _videos_of_lists(root)
    for part in ("train", "val"):
        (root / f"{part}.csv").write_text(f"{part}_0.mp4,0\n{part}_1.mp4,1\n")
    _folds(root)
    names = ("Moving [something]", "Showing [something]")
    plain = [name.replace("[", "").replace("]", "") for name in names]
    v1, v2 = "something-something-v1", "something-something-v2"
    (root / f"{v1}-labels.csv").write_text("\n".join(plain))
    table = {name: str(k) for k, name in enumerate(plain)}
    (root / f"{v2}-labels.json").write_text(json.dumps(table))
    head = "id,subject,actions,length\n"
    for k, part in enumerate(("train", "validation")):
        ids = (f"{k}0", f"{k}1")
        lines = [f"{i};{name}" for i, name in zip(ids, plain, strict=True)]
        (root / f"{v1}-{part}.csv").write_text("\n".join(lines))
        entries = [{"id": i, "template": x} for i, x in zip(ids, names, strict=True)]
        (root / f"{v2}-{part}.json").write_text(json.dumps(entries))
        rows = f"{ids[0]},A,c000 0.10 0.60;c001 0.40 1.20,1.4\n{ids[1]},B,,1.4\n"
        name = "Charades_v1_train" if k == 0 else "Charades_v1_test"
        (root / f"{name}.csv").write_text(head + rows)


def _videos_of_lists(root: Path) -> None:
    """14 frames each, under the names that the lists use."""
    something = "20bn-something-something-v"
    for k, part in enumerate(("train", "val")):
        for label, name in enumerate(("Run", "Walk")):
            video = root / f"{part}_{label}.mp4"
            write_video(video, pixels(14, 40, 48, 3))
            copies = (
                f"UCF-101/{name}/v_{name}_g0{k}_c01.avi",
                f"hmdb51_org/{name}/{part}.avi",
                f"Charades_v1_480/{k}{label}.mp4",
            )
            for copy in copies:
                (root / copy).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(video, root / copy)
            write_video(
                root / f"{something}2/{k}{label}.webm", pixels(14, 40, 48, 3), "vp8"
            )
            frames = root / f"{something}1/{k}{label}"
            frames.mkdir(parents=True)
            for n in range(14):
                Image.fromarray(pixels(40, 48, 3)).save(frames / f"{n + 1:05d}.jpg")


def _folds(root: Path) -> None:
    """The first split of UCF101 and HMDB51."""
    (root / "classInd.txt").write_text("1 Run\n2 Walk\n")
    for k, part in enumerate(("train", "test")):
        lines = [f"{name}/v_{name}_g0{k}_c01.avi" for name in ("Run", "Walk")]
        (root / f"{part}list01.txt").write_text("\n".join(lines))
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name in ("Run", "Walk"):
        (lists / f"{name}_test_split1.txt").write_text("train.avi 1\nval.avi 2\n")


def kinetics(root: Path) -> None:
    """Three videos of 10 frames in each split."""
    (root / "annotations").mkdir()
    for split in ("train", "val", "test"):
        (root / split).mkdir()
        lines = ["label,youtube_id,time_start,time_end,split"]
        for name in "abc":
            lines.append(f"juggling,{name},1,11,{split}")
            write_video(
                root / split / f"{name}_000001_000011.mp4", pixels(10, 40, 48, 3)
            )
        (root / "annotations" / f"{split}.csv").write_text("\n".join(lines))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    length, n = b"", len(content)
    while n > 127:
        length, n = length + bytes([n & 127 | 128]), n >> 7
    return bytes([number << 3 | 2]) + length + bytes([n]) + content


def bair(root: Path) -> None:
    """Three recordings of 7 frames in training and one in the test."""
    for split, n in (("train", 3), ("test", 1)):
        folder = root / "softmotion30_44k" / split
        folder.mkdir(parents=True)
        records = b""
        for _ in range(n):
            features = b""
            for t in range(7):
                name = f"{t}/image_aux1/encoded".encode()
                value = _field(1, _field(1, pixels(64, 64, 3).tobytes()))
                features += _field(1, _field(1, name) + _field(2, value))
            example = _field(1, features)
            # The reader does not look at the checksums.
            records += struct.pack("<Q", len(example)) + b"\0" * 4 + example + b"\0" * 4
        (folder / "traj_0_to_255.tfrecords").write_bytes(records)


def weatherbench(root: Path) -> None:
    """130 hours of 2015, 2016 and 2017 on 8x16 cells."""
    import xarray as xr

    folders = {
        "t2m": "2m_temperature",
        "u10": "10m_u_component_of_wind",
        "v10": "10m_v_component_of_wind",
        "tcc": "total_cloud_cover",
        "r": "relative_humidity",
        "t": "temperature",
        "u": "u_component_of_wind",
        "v": "v_component_of_wind",
    }
    hours = np.arange(130).astype("timedelta64[h]")
    for name, folder in folders.items():
        (root / folder).mkdir()
        levels = [150, 500, 850] if name in "rtuv" else None
        dims = ("time", "level", "lat", "lon") if levels else ("time", "lat", "lon")
        shape = (130, 3, 8, 16) if levels else (130, 8, 16)
        for year in (2015, 2016, 2017):
            coords = {
                "time": (np.datetime64(f"{year}-01-01T00") + hours).astype("M8[ns]")
            }
            coords |= {"level": levels} if levels else {}
            data = RNG.normal(280, 5, shape).astype("f4")
            dataset = xr.Dataset({name: (dims, data, {"units": "K"})}, coords)
            path = root / folder / f"{folder}_{year}_5.625deg.nc"
            dataset.to_netcdf(path, engine="h5netcdf")


WRITERS = {
    "moving_mnist": moving_mnist,
    "moving_fmnist": moving_mnist,
    "moving_mnist_cifar": moving_mnist,
    "noisy_moving_mnist": moving_mnist,
    "taxibj": taxibj,
    "kth": kth,
    "kitti_caltech": kitti_caltech,
    "human": human,
    "kinetics": kinetics,
    "bair": bair,
    "labelled_videos": labelled_videos,
    "weatherbench": weatherbench,
}
