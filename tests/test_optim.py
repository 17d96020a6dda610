"""Schedules equal the originals' tables; optimizers equal PyTorch's arithmetic."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stjax.errors import UserError
from stjax.optim import create_optimizer


def slowfast_cosine(config):
    per = config["iters_per_epoch"]
    return {
        "schedule": "cosine_iterations",
        "lr": config["BASE_LR"],
        "total_steps": config["MAX_EPOCH"] * per,
        "steps_per_epoch": per,
        "warmup": config["WARMUP_EPOCHS"],
        "warmup_lr": config["WARMUP_START_LR"],
        "lr_min": config["COSINE_END_LR"],
        "after_warmup": config["COSINE_AFTER_WARMUP"],
    }


def fields_of(name, config):
    """The optimizer fields that mean the same as an original's config."""
    if name.startswith("onecycle"):
        return {
            "schedule": "onecycle",
            "lr": config["max_lr"],
            "total_steps": config["total_steps"],
        }
    if name.startswith("timm"):
        return {
            "schedule": "cosine",
            "lr": config["lr"],
            "total_steps": config["epochs"] * 37,
            "steps_per_epoch": 37,
            "warmup": config["warmup_epoch"],
            "lr_min": config["min_lr"],
            "warmup_lr": config.get("warmup_lr"),
        }
    if config["LR_POLICY"] == "cosine":
        return slowfast_cosine(config)
    return {
        "schedule": "steps",
        "lr": config["BASE_LR"],
        "total_steps": config["MAX_EPOCH"] * config["iters_per_epoch"],
        "steps_per_epoch": config["iters_per_epoch"],
        "milestones": config["STEPS"],
        "factors": config["LRS"],
    }


def table(golden, name):
    z = golden("schedules.npz")
    config = json.loads(str(z[f"{name}/config_json"]))
    lr = z[f"{name}/lr"]
    step = z[f"{name}/step"] if f"{name}/step" in z.files else np.arange(len(lr))
    if name.startswith("timm"):
        step = step * 37 + step % 37  # anywhere inside the epoch
    beta1 = z[f"{name}/beta1"] if f"{name}/beta1" in z.files else None
    return fields_of(name, config), step, lr, beta1


NAMES = [
    "onecycle200",
    "onecycle_mmnist",
    "timm_cosine_taxibj",
    "timm_cosine_nowarmup",
    "uniformer_k400",
    "uniformer_b16_sthv2",
    "slowfast_i3d_cosine",
    "slowfast_i3d_in1k_steps",
]


@pytest.mark.parametrize("name", NAMES)
def test_schedule_equals_the_original(golden, name):
    fields, step, lr, beta1 = table(golden, name)
    values = jax.jit(jax.vmap(create_optimizer("adam", **fields).values))(step)
    assert values["lr"].dtype == jnp.float32
    np.testing.assert_allclose(values["lr"], lr, rtol=0, atol=1e-6 * fields["lr"])
    beta1 = 0.9 if beta1 is None else beta1
    np.testing.assert_allclose(values["beta1"], beta1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_schedule_in_float64(golden, name):
    fields, step, lr, _ = table(golden, name)
    with jax.enable_x64(True):
        values = jax.vmap(create_optimizer("adam", **fields).values)(step)
        # What a cosine leaves near its end is a difference of numbers of order 1.
        np.testing.assert_allclose(
            values["lr"], lr, rtol=1e-12, atol=2e-16 * fields["lr"]
        )


@pytest.mark.parametrize("total", range(1, 12))
def test_onecycle_of_tiny_lengths_equals_torch(total):
    torch = pytest.importorskip("torch")
    rule = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(rule, 1.0, total_steps=total)
    expected = [scheduler.get_last_lr()[0]]
    for _ in range(total - 1):
        rule.step()
        scheduler.step()
        expected.append(scheduler.get_last_lr()[0])
    optimizer = create_optimizer("adam", lr=1.0, schedule="onecycle", total_steps=total)
    lr = jax.vmap(optimizer.values)(jnp.arange(total + 2))["lr"]
    np.testing.assert_allclose(lr, expected + expected[-1:] * 2, rtol=0, atol=1e-6)


def parameters():
    rng = np.random.default_rng(0)
    return {
        "kernel": rng.standard_normal((3, 4)).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
    }


def gradients(steps, scale=1.0):
    rng = np.random.default_rng(1)
    return [
        {
            "kernel": scale * rng.standard_normal((3, 4)).astype(np.float32),
            "bias": scale * rng.standard_normal(4).astype(np.float32),
        }
        for _ in range(steps)
    ]


def run_ours(optimizer, grads):
    params = jax.tree.map(jnp.asarray, parameters())
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for grad in grads:
        updates, state = update(grad, state, params)
        params = optax.apply_updates(params, updates)
    assert state.count == len(grads)
    return params


def run_torch(make, grads, clip=None, schedule=None):
    torch = pytest.importorskip("torch")
    values = {
        key: torch.nn.Parameter(torch.tensor(value, dtype=torch.float64))
        for key, value in parameters().items()
    }
    optimizer = make(torch, values)
    scheduler = schedule(torch, optimizer) if schedule else None
    for grad in grads:
        for key, value in values.items():
            value.grad = torch.tensor(grad[key], dtype=torch.float64)
        if clip:
            torch.nn.utils.clip_grad_norm_(values.values(), clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return {key: value.detach().numpy() for key, value in values.items()}


@pytest.mark.parametrize("clip", [None, 1.5])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("adam", {}),
        ("adam", {"weight_decay": 0.1}),
        ("adamw", {"weight_decay": 0.1, "beta2": 0.95, "eps": 1e-6}),
        ("sgd", {}),
        ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_optimizer_equals_torch(name, fields, clip):
    grads = gradients(20)
    ours = run_ours(
        create_optimizer(name, lr=0.01, total_steps=20, clip=clip, **fields), grads
    )
    options = dict(fields)
    if name != "sgd":
        options["betas"] = (0.9, options.pop("beta2", 0.999))
    make = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[name]
    theirs = run_torch(
        lambda torch, p: getattr(torch.optim, make)(p.values(), lr=0.01, **options),
        grads,
        clip,
    )
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=2e-6, atol=1e-6)


def test_onecycle_cycles_beta1_as_torch():
    grads = gradients(30)
    ours = run_ours(
        create_optimizer("adam", lr=0.1, schedule="onecycle", total_steps=30), grads
    )
    theirs = run_torch(
        lambda torch, p: torch.optim.Adam(p.values(), lr=0.1),
        grads,
        schedule=lambda torch, optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.1, total_steps=30
        ),
    )
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=5e-6, atol=5e-6)


def test_decay_can_leave_vectors_out():
    zero = [jax.tree.map(np.zeros_like, parameters())] * 3
    for name in ("adamw", "sgd"):
        params = run_ours(
            create_optimizer(
                name, lr=0.1, total_steps=3, weight_decay=0.5, decay_1d=False
            ),
            zero,
        )
        np.testing.assert_array_equal(params["bias"], parameters()["bias"])
        np.testing.assert_allclose(
            params["kernel"], parameters()["kernel"] * 0.95**3, rtol=1e-6
        )


def test_bad_fields_name_the_nearest():
    def create(**fields):
        return create_optimizer(**({"lr": 0.1, "total_steps": 5} | fields))

    with pytest.raises(UserError, match="unknown optimizer 'adamm'; did you mean"):
        create(name="adamm")
    with pytest.raises(UserError, match="did you mean 'onecycle'"):
        create(schedule="one_cycle")
    with pytest.raises(UserError, match="did you mean 'warmup_lr'"):
        create(schedule="cosine", warm_up_lr=1.0)
    with pytest.raises(UserError, match="unknown field of optim .*'warmup'"):
        create(schedule="onecycle", warmup=5)
    with pytest.raises(UserError, match="needs optim.milestones"):
        create(schedule="steps")
    with pytest.raises(UserError, match="at least 1 step"):
        create(total_steps=0)
    create(schedule="cosine", warmup=None, weight_decay=None, clip=None)


STEPS = {"schedule": "steps", "lr": 0.01, "total_steps": 400_000}


def test_milestones_in_steps():
    """Non-local networks: lr .01, a tenth of it after 150k and 300k iterations."""
    optimizer = create_optimizer(
        "sgd",
        **STEPS,
        steps_per_epoch=3666,
        milestones=(0, 150_000, 300_000),
        factors=(1, 0.1, 0.01),
        milestone_unit="steps",
    )
    step = jnp.asarray([0, 149_999, 150_000, 299_999, 300_000, 399_999])
    lr = jax.vmap(optimizer.values)(step)["lr"]
    expected = [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    np.testing.assert_allclose(lr, expected, rtol=1e-6)


def test_milestones_may_lie_inside_an_epoch():
    optimizer = create_optimizer(
        "sgd", **STEPS, steps_per_epoch=10, milestones=(0, 1.5), factors=(1, 0.5)
    )
    lr = jax.vmap(optimizer.values)(jnp.arange(14, 17))["lr"]
    np.testing.assert_allclose(lr, [0.01, 0.005, 0.005], rtol=1e-6)


def test_milestones_that_do_not_fit():
    for fields in (
        {"milestones": (5, 10), "factors": (1, 0.1)},
        {"milestones": (0, 10), "factors": (1,)},
        {"milestones": (0, 10, 5), "factors": (1, 0.1, 0.01)},
        {"milestones": (), "factors": ()},
    ):
        with pytest.raises(UserError, match="must rise from 0 and have one of"):
            create_optimizer("sgd", **STEPS, **fields)
    with pytest.raises(UserError, match="milestone_unit 'step'; did you mean 'steps'"):
        create_optimizer(
            "sgd", **STEPS, milestones=(0,), factors=(1,), milestone_unit="step"
        )
