"""The sides of a comparison: stjax, PyTorch, ONNX Runtime, each called once."""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDES = ("stjax", "stjax_scan", "eager", "channels_last", "onnx")


class Side:
    """Something to be called again and again.

    Attributes:
      call: one forward pass or training step; returns when it is done.
      result: of the first call: predictions, logits, or the loss.
      versions: of what computes.
      seconds: of the parts of the first call.
    """

    call: Callable[[], None]
    result: np.ndarray
    versions: dict[str, str]
    seconds: dict[str, float]


class Stjax(Side):
    """stjax, compiled; the step is that of its training loop."""

    def __init__(self, kind: str, folder: Path, scan: bool = False):
        """Everything but the first call, which is timed."""
        import jax
        import jaxlib

        from stjax.aot.specs import Described, spec_of
        from stjax.config import from_dict
        from stjax.sharding.mesh import make_mesh
        from stjax.training.setup import prepare

        config = from_dict(json.loads((folder / "config.json").read_text()))
        if scan:
            with config.unlocked():
                config.model.scan = True
        mesh = make_mesh(devices=jax.devices()[:1])
        spec = spec_of(config)
        setup = prepare(config, mesh, {"train": Described(spec, 10_000)})
        with np.load(folder / "weights.npz") as weights:
            variables = _variables(setup, dict(weights))
        with np.load(folder / "raw.npz") as raw:
            batch = jax.device_put(dict(raw))
        self.versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
        make = self._train if kind == "train" else self._forward
        make(setup, variables, batch)

    def _forward(self, setup, variables, batch) -> None:
        import jax

        from stjax.aot.programs import _forward
        from stjax.compiling import compiler_options
        from stjax.data.base import LabelSpec

        spec, model = setup.spec, setup.model
        labelled = isinstance(spec, LabelSpec)
        x = batch["input"][:, 0] if labelled else batch["input"]
        x, variables = jax.block_until_ready((x, jax.device_put(variables)))

        def predict(variables, x):
            return _forward(model, spec, variables, x)

        start = time.perf_counter()
        jitted = jax.jit(predict, compiler_options=compiler_options())
        lowered = jitted.lower(variables, x)
        traced = time.perf_counter()
        compiled = lowered.compile()
        built = time.perf_counter()
        self.result = np.asarray(compiled(variables, x))
        self._tell(start, traced, built)
        self.call = lambda: jax.block_until_ready(compiled(variables, x))

    def _train(self, setup, variables, batch) -> None:
        import jax

        from stjax.training.state import create_state, state_shardings

        state = create_state(variables, setup.tx, setup.config.train.ema is not None)
        shardings = state_shardings(jax.eval_shape(setup.fresh_state), setup.mesh)
        state = jax.block_until_ready(jax.device_put(state, shardings))
        del variables
        with jax.set_mesh(setup.mesh):
            start = time.perf_counter()
            step = setup.train_step.jitted(shardings, setup.mesh)
            lowered = step.lower(state, batch)
            traced = time.perf_counter()
            compiled = lowered.compile()
        built = time.perf_counter()
        self._state, metrics = compiled(state, batch)
        self.result = np.asarray(metrics["loss"])
        self._tell(start, traced, built)

        def call():
            self._state, metrics = compiled(self._state, batch)
            jax.block_until_ready((self._state, metrics))

        self.call = call

    def _tell(self, start: float, traced: float, built: float) -> None:
        end = time.perf_counter()
        parts = {"trace": traced - start, "compile": built - traced, "run": end - built}
        self.seconds = {**parts, "total": end - start}


def _variables(setup, weights: dict) -> dict:
    import jax

    from stjax.convert import from_torch
    from stjax.stacked import stack

    model = setup.model
    single = model.clone(scan=False) if getattr(model, "scan", False) else model
    like = jax.eval_shape(setup.fresh_state).variables
    return stack(from_torch(single, weights), like)


class Torch(Side):
    """The PyTorch network, eager; its optimizer is that of the config."""

    def __init__(self, kind: str, folder: Path, channels_last: bool = False):
        """Loads the network and calls it once."""
        import torch

        torch.manual_seed(0)
        about = json.loads((folder / "figure.json").read_text())
        _find_modules(about)
        model = torch.load(folder / "model.pt", weights_only=False)
        with np.load(folder / "torch.npz") as arrays:
            batch = {k: torch.from_numpy(v) for k, v in arrays.items()}
        if channels_last:
            layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
            for p in model.parameters():
                if p.ndim in layouts:
                    p.data = p.data.contiguous(memory_format=layouts[p.ndim])
            if batch["target"].ndim == 1:  # a clip to recognise; frames are reshaped
                x = batch["input"].contiguous(memory_format=torch.channels_last_3d)
                batch["input"] = x
        self.versions = {"torch": torch.__version__}
        self.threads = torch.get_num_threads()
        start = time.perf_counter()
        if kind == "train":
            self.call = self._step(model.train(), batch, about)
            self.result = np.asarray(self.call())
        else:
            model.eval()
            self.call = torch.inference_mode()(lambda: model(batch["input"]))
            self.result = self.call().numpy()
        self.seconds = {"total": time.perf_counter() - start}

    @staticmethod
    def _step(model, batch, about) -> Callable:
        import torch

        objective = importlib.import_module(f"peers.{about['peer']}").loss
        optim = about["optim"]
        fields = {"lr": optim["lr"], "weight_decay": optim["weight_decay"]}
        if optim["name"] == "sgd":
            names = "momentum", "nesterov"
            fields |= {k: optim[k] for k in names if optim[k] is not None}
        kinds = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
        tx = getattr(torch.optim, kinds[optim["name"]])(model.parameters(), **fields)

        def call():
            tx.zero_grad(set_to_none=True)
            loss = objective(model, batch)
            loss.backward()
            tx.step()
            return loss.item()

        return call


def _find_modules(about: dict) -> None:
    """Unpickling imports what the network was made of."""
    sys.path.insert(0, str(Path(__file__).parent))
    if about["checkout"]:
        import checkouts

        below = Path(about["checkout"]) / checkouts.ROOT[about["project"]]
        sys.path.insert(0, str(below if below.is_dir() else about["checkout"]))


class Onnx(Side):
    """ONNX Runtime, on the network that PyTorch exported."""

    def __init__(self, kind: str, folder: Path):
        """Loads the network and calls it once."""
        problem = (folder / "onnx.txt").read_text()
        if problem:
            raise Skipped(problem)
        if kind != "forward":
            raise Skipped("it does not train")
        import onnxruntime

        with np.load(folder / "torch.npz") as arrays:
            feed = {"x": arrays["input"]}
        self.versions = {"onnxruntime": onnxruntime.__version__}
        start = time.perf_counter()
        session = onnxruntime.InferenceSession(
            str(folder / "net.onnx"), providers=["CPUExecutionProvider"]
        )
        self.call = lambda: session.run(None, feed)[0]
        self.result = self.call()
        self.seconds = {"total": time.perf_counter() - start}


class Skipped(Exception):
    """A side that is not there, and why."""


def make(side: str, kind: str, folder: Path) -> Side:
    """The side of that name, called once."""
    if side.startswith("stjax"):
        return Stjax(kind, folder, scan=side == "stjax_scan")
    if side == "onnx":
        return Onnx(kind, folder)
    return Torch(kind, folder, channels_last=side == "channels_last")
