"""Metrics of prediction: (numerator, denominator) pairs per clip and lead time.

Those of recognition, in `stjax.metrics.recognition`, take the scores of a whole split.
"""

from stjax.metrics.decibel import psnr, psnr_wrapped, snr
from stjax.metrics.errors import mae, mse
from stjax.metrics.perceptual import lpips, read_lpips
from stjax.metrics.recognition import (
    RECOGNITION_METRICS,
    RecognitionMetric,
    confusion_matrix,
    create_recognition_metrics,
    mean_average_precision,
    mean_class_accuracy,
    top1,
    top5,
)
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
    "RECOGNITION_METRICS",
    "Contingency",
    "Metric",
    "RecognitionMetric",
    "Summary",
    "anomaly_correlation",
    "confusion_matrix",
    "contingency",
    "create_metric",
    "create_recognition_metrics",
    "csi",
    "far",
    "frequency_bias",
    "fss",
    "lpips",
    "mae",
    "mean_average_precision",
    "mean_class_accuracy",
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
    "top1",
    "top5",
]
