"""Miniature files of the data sets, in the formats that the sources read."""

import gzip
import pickle
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


def kinetics(root: Path) -> None:
    """Three videos of 10 frames in each split."""
    import av

    (root / "annotations").mkdir()
    for split in ("train", "val", "test"):
        (root / split).mkdir()
        lines = ["label,youtube_id,time_start,time_end,split"]
        for name in "abc":
            lines.append(f"juggling,{name},1,11,{split}")
            path = root / split / f"{name}_000001_000011.mp4"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("mpeg4", rate=10)
                stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
                for _ in range(10):
                    frame = av.VideoFrame.from_ndarray(pixels(40, 48, 3), "rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
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
    "weatherbench": weatherbench,
}
