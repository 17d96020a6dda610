"""The exact commands that run a training on Cloud TPU; see docs/cloud_tpu.md.

`jobs` reads what to run and where, `gcloud` and `xpk` build command lines from it, and
``python -m experiments.launch`` prints or runs them.
"""
