"""60 training steps of the official code, followed loss by loss (golden file)."""

import json

import jax
import numpy as np
import optax

import stjax
from stjax.convert import from_torch, to_torch
from stjax.optim import create_optimizer


def channels_last(x):
    return np.moveaxis(x, -3, -1)


def test_onecycle_run_of_the_official_code(golden):
    z = golden("tau_traj_onecycle.npz")
    config = json.loads(str(z["config_json"]))
    model = stjax.create_model(
        "tau",
        hid_s=config["hid_S"],
        hid_t=config["hid_T"],
        n_s=config["N_S"],
        n_t=config["N_T"],
        drop_path_floor=0.0,
    )
    init = {k[5:]: z[k] for k in z.files if k.startswith("init/")}
    variables = from_torch(model, init)
    steps = len(z["losses"])
    tx = create_optimizer("adam", lr=5e-3, schedule="onecycle", total_steps=steps)
    opt_state = tx.init(variables["params"])
    create_loss = stjax.losses.create_loss
    loss_fn = create_loss("mse_divergence", alpha=0.1, temperature=0.1)

    @jax.jit
    def train_step(variables, opt_state, clip):
        x, y = clip[:, :4], clip[:, 4:]

        def objective(params):
            pred, new = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return loss_fn(pred, y).mean(), new

        value, vjp, new = jax.vjp(objective, variables["params"], has_aux=True)
        (grads,) = vjp(1.0)
        updates, opt_state = tx.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, **new}, opt_state, value, optax.tree.norm(grads)

    losses, norms = [], []
    for clip in channels_last(z["data"]).astype(np.float32) / 255:
        variables, opt_state, loss, norm = train_step(variables, opt_state, clip)
        losses.append(loss)
        norms.append(norm)
    values = [tx.values(i) for i in range(steps)]
    np.testing.assert_allclose(losses, z["losses"], rtol=1e-5)
    np.testing.assert_allclose(norms, z["grad_norm"], rtol=1e-4)
    np.testing.assert_allclose([v["lr"] for v in values], z["lr"], atol=5e-9)
    np.testing.assert_allclose([v["beta1"] for v in values], z["beta1"], atol=1e-6)

    clips = channels_last(z["eval_data"]).astype(np.float32) / 255
    pred = jax.jit(model.apply)(variables, clips[:, :4])
    np.testing.assert_allclose(pred, channels_last(z["eval_pred"]), atol=5e-5)
    mse = np.square(pred - clips[:, 4:]).mean()
    np.testing.assert_allclose(mse, z["eval_mse"], rtol=1e-5)
    final = to_torch(model, variables)
    for key in z.files:
        name = key.removeprefix("final/")
        if name != key and not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(final[name], z[key], atol=1e-4, err_msg=name)
