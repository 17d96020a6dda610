"""Metrics of prediction: (numerator, denominator) pairs per clip and lead time."""

from stjax.metrics.decibel import psnr, psnr_wrapped, snr
from stjax.metrics.errors import mae, mse
from stjax.metrics.perceptual import lpips, read_lpips
from stjax.metrics.registry import METRICS, Metric, Summary, create_metric, summarise
from stjax.metrics.similarity import ssim
from stjax.metrics.spectrum import power_ratio, radial_spectrum
from stjax.metrics.threshold import (
    Contingency,
    contingency,
    csi,
    far,
    frequency_bias,
    fss,
    pod,
    sucr,
)
from stjax.metrics.weather import anomaly_correlation, mse_latitude

__all__ = [
    "METRICS",
    "Contingency",
    "Metric",
    "Summary",
    "anomaly_correlation",
    "contingency",
    "create_metric",
    "csi",
    "far",
    "frequency_bias",
    "fss",
    "lpips",
    "mae",
    "mse",
    "mse_latitude",
    "pod",
    "power_ratio",
    "psnr",
    "psnr_wrapped",
    "radial_spectrum",
    "read_lpips",
    "snr",
    "ssim",
    "sucr",
    "summarise",
]
