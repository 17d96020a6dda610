"""Metrics of prediction: (numerator, denominator) pairs per clip and lead time."""

from stjax.metrics.decibel import psnr, psnr_wrapped, snr
from stjax.metrics.errors import mae, mse
from stjax.metrics.registry import METRICS, Metric, Summary, create_metric, summarise
from stjax.metrics.ssim import ssim

__all__ = [
    "METRICS",
    "Metric",
    "Summary",
    "create_metric",
    "mae",
    "mse",
    "psnr",
    "psnr_wrapped",
    "snr",
    "ssim",
    "summarise",
]
