"""A source with a decoder, a cache and a lock gives a worker process the same clips."""

import av
import numpy as np

from stjax.data.pipeline import batches, make_dataset
from stjax.data.sources import open_source


def test_videos_in_another_process(tmp_path):
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(40):
            frame = rng.integers(0, 256, (32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    source = open_source("files", path=tmp_path / "a.mp4", t_in=3, t_out=2)
    dataset = make_dataset(source, batch=2, train=True)
    with batches(dataset, workers=1) as parallel:
        for step in range(3):
            got, expected = next(parallel), dataset[step]
            for key, value in expected.items():
                np.testing.assert_array_equal(got[key], value)
