"""Published results of frame predictors, to print beside our own.

Sources: OpenSTL's tables (docs/en/model_zoos); PredFormer: its repository's figures;
SwinLSTM: as quoted by PredFormer. MSE and MAE are sums over a frame, SSIM has data
range 2, "FLOPs" are multiply-adds (G), parameters in millions. Baselines of different
papers were trained by different protocols.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A row of a published table; None where it prints nothing."""

    mse: float
    mae: float | None
    ssim: float
    psnr: float | None
    epochs: int
    params: float | None = None
    gmacs: float | None = None


MOVING_MNIST = {
    "convlstm": Published(29.80, 90.64, 0.9288, 22.10, 200, 15.0, 56.8),
    "predrnn": Published(23.97, 72.82, 0.9462, 23.28, 200, 23.8, 116.0),
    "predrnnpp": Published(22.06, 69.58, 0.9509, 23.65, 200, 38.6, 171.7),
    "predrnnv2": Published(24.13, 73.73, 0.9453, 23.21, 200, 23.9, 116.6),
    "mim": Published(22.55, 69.97, 0.9498, 23.56, 200, 38.0, 179.2),
    "mau": Published(26.86, 78.22, 0.9398, 22.76, 200, 4.5, 17.8),
    "e3dlstm": Published(35.97, 78.28, 0.9320, 21.11, 200, 51.0, 298.9),
    "phydnet": Published(28.19, 78.64, 0.9374, 22.62, 200, 3.1, 15.3),
    "swinlstm": Published(17.7, None, 0.962, None, 2000, 20.2, 69.9),
    "predformer": Published(12.4, 44.6, 0.973, None, 2000, 25.3, 16.5),
    "incepu": Published(32.15, 89.05, 0.9268, 21.84, 200, 58.0, 19.4),
    "gsta": Published(26.69, 77.19, 0.9402, 22.78, 200, 46.8, 16.5),
    "vit": Published(35.15, 95.87, 0.9139, 21.67, 200, 46.1, 16.9),
    "swin": Published(29.70, 84.05, 0.9331, 22.22, 200, 46.1, 16.4),
    "uniformer": Published(30.38, 85.87, 0.9308, 22.13, 200, 44.8, 16.5),
    "mlpmixer": Published(29.52, 83.36, 0.9338, 22.22, 200, 38.2, 14.7),
    "convmixer": Published(32.09, 88.93, 0.9259, 21.93, 200, 3.9, 5.5),
    "poolformer": Published(31.79, 88.48, 0.9271, 22.03, 200, 37.1, 14.1),
    "convnext": Published(26.94, 77.23, 0.9397, 22.74, 200, 37.3, 14.1),
    "van": Published(26.10, 76.11, 0.9417, 22.89, 200, 44.5, 16.0),
    "hornet": Published(29.64, 83.26, 0.9331, 22.26, 200, 45.7, 16.3),
    "moga": Published(25.57, 75.19, 0.9429, 22.99, 200, 46.8, 16.5),
    "tau": Published(24.60, 71.93, 0.9454, 23.19, 200, 44.7, 16.0),
}
TAXIBJ = {
    "convlstm": Published(0.3358, 15.32, 0.9836, 39.45, 50, 14.98, 20.74),
    "predrnn": Published(0.3194, 15.31, 0.9838, 39.51, 50, 23.66, 42.40),
    "predrnnpp": Published(0.3348, 15.37, 0.9834, 39.47, 50, 38.40, 62.95),
    "predrnnv2": Published(0.3834, 15.55, 0.9826, 39.49, 50, 23.67, 42.63),
    "mim": Published(0.3110, 14.96, 0.9847, 39.65, 50, 37.86, 64.10),
    "mau": Published(0.3268, 15.26, 0.9834, 39.52, 50, 4.41, 6.02),
    "e3dlstm": Published(0.3427, 14.98, 0.9842, 39.64, 50, 50.99, 98.19),
    "phydnet": Published(0.3622, 15.53, 0.9828, 39.46, 50, 3.09, 5.60),
    "predformer": Published(0.284, 14.4, 0.986, None, 200, 8.4),
    "incepu": Published(0.3282, 15.45, 0.9835, 39.45, 50, 13.79, 3.61),
    "gsta": Published(0.3246, 15.03, 0.9844, 39.71, 50, 9.96, 2.62),
    "vit": Published(0.3171, 15.15, 0.9841, 39.64, 50, 9.66, 2.80),
    "swin": Published(0.3128, 15.07, 0.9847, 39.65, 50, 9.66, 2.56),
    "uniformer": Published(0.3268, 15.16, 0.9844, 39.64, 50, 9.52, 2.71),
    "mlpmixer": Published(0.3206, 15.37, 0.9841, 39.49, 50, 8.24, 2.18),
    "convmixer": Published(0.3634, 15.63, 0.9831, 39.41, 50, 0.84, 0.23),
    "poolformer": Published(0.3273, 15.39, 0.9840, 39.46, 50, 7.75, 2.06),
    "convnext": Published(0.3106, 14.90, 0.9845, 39.76, 50, 7.84, 2.08),
    "van": Published(0.3125, 14.96, 0.9848, 39.72, 50, 9.48, 2.49),
    "hornet": Published(0.3186, 15.01, 0.9843, 39.66, 50, 9.68, 2.54),
    "moga": Published(0.3114, 15.06, 0.9847, 39.70, 50, 9.96, 2.61),
    "tau": Published(0.3108, 14.93, 0.9848, 39.74, 50, 9.55, 2.49),
}
KTH = {
    "convlstm": Published(47.65, 445.5, 0.8977, 26.99, 100, 14.9, 1368.0),
    "predrnn": Published(41.07, 380.6, 0.9097, 27.95, 100, 23.6, 2800.0),
    "predrnnpp": Published(39.84, 370.4, 0.9124, 28.13, 100, 38.3, 4162.0),
    "predrnnv2": Published(39.57, 368.8, 0.9099, 28.01, 100, 23.6, 2815.0),
    "mim": Published(40.73, 380.8, 0.9025, 27.78, 100, 39.8, 1099.0),
    "mau": Published(51.02, 471.2, 0.8945, 26.73, 100, 20.1, 399.0),
    "e3dlstm": Published(136.40, 892.7, 0.8153, 21.78, 100, 53.5, 217.0),
    "phydnet": Published(91.12, 765.6, 0.8322, 23.41, 100, 3.1, 93.6),
    "incepu": Published(41.11, 397.1, 0.9065, 27.46, 100, 12.2, 62.8),
    "gsta": Published(45.02, 417.8, 0.9049, 27.04, 100, 15.6, 76.8),
    "vit": Published(56.57, 459.3, 0.8947, 26.19, 100, 12.7, 112.0),
    "swin": Published(45.72, 405.7, 0.9039, 27.01, 100, 15.3, 75.9),
    "uniformer": Published(44.71, 404.6, 0.9058, 27.16, 100, 11.8, 78.3),
    "mlpmixer": Published(57.74, 517.4, 0.8886, 25.72, 100, 20.3, 66.6),
    "convmixer": Published(47.31, 446.1, 0.8993, 26.66, 100, 1.5, 18.3),
    "poolformer": Published(45.44, 400.9, 0.9065, 27.22, 100, 12.4, 63.6),
    "convnext": Published(45.48, 428.3, 0.9037, 26.96, 100, 12.5, 63.9),
    "van": Published(45.05, 409.1, 0.9074, 27.07, 100, 14.9, 73.8),
    "hornet": Published(46.84, 421.2, 0.9005, 26.80, 100, 15.3, 75.3),
    "moga": Published(42.98, 418.7, 0.9065, 27.16, 100, 15.6, 76.7),
    "tau": Published(45.32, 421.7, 0.9086, 27.10, 100, 15.0, 73.8),
}
KITTI_CALTECH = {
    "convlstm": Published(139.6, 1583.3, 0.9345, 27.46, 100, 15.0, 595.0),
    "predrnn": Published(130.4, 1525.5, 0.9374, 27.81, 100, 23.7, 1216.0),
    "predrnnpp": Published(125.5, 1453.2, 0.9433, 28.02, 100, 38.5, 1803.0),
    "predrnnv2": Published(147.8, 1610.5, 0.9330, 27.12, 100, 23.8, 1223.0),
    "mim": Published(125.1, 1464.0, 0.9409, 28.10, 100, 49.2, 1858.0),
    "mau": Published(177.8, 1800.4, 0.9176, 26.14, 100, 24.3, 172.0),
    "e3dlstm": Published(200.6, 1946.2, 0.9047, 25.45, 100, 54.9, 1004.0),
    "phydnet": Published(312.2, 2754.8, 0.8615, 23.26, 100, 3.1, 40.4),
    "incepu": Published(160.2, 1690.8, 0.9338, 26.81, 100, 8.6, 60.6),
    "gsta": Published(129.7, 1507.7, 0.9454, 27.89, 100, 15.6, 96.3),
    "vit": Published(146.4, 1615.8, 0.9379, 27.43, 100, 12.7, 155.0),
    "swin": Published(155.2, 1588.9, 0.9299, 27.25, 100, 15.3, 95.2),
    "uniformer": Published(135.9, 1534.2, 0.9393, 27.66, 100, 11.8, 104.0),
    "mlpmixer": Published(207.9, 1835.9, 0.9133, 26.29, 100, 22.2, 83.5),
    "convmixer": Published(174.7, 1854.3, 0.9232, 26.23, 100, 1.5, 23.1),
    "poolformer": Published(153.4, 1613.5, 0.9334, 27.38, 100, 12.4, 79.8),
    "convnext": Published(146.8, 1630.0, 0.9336, 27.19, 100, 12.5, 80.2),
    "van": Published(127.5, 1476.5, 0.9462, 27.98, 100, 14.9, 92.5),
    "hornet": Published(152.8, 1637.9, 0.9365, 27.09, 100, 15.3, 94.4),
    "moga": Published(131.4, 1512.1, 0.9442, 27.79, 100, 15.6, 96.2),
    "tau": Published(131.1, 1507.8, 0.9456, 27.83, 100, 44.7, 80.0),
}
PUBLISHED = {
    "moving_digits": MOVING_MNIST,  # the same task at 64x64 with other digits
    "moving_mnist": MOVING_MNIST,
    "taxibj": TAXIBJ,
    "kth": KTH,
    "kitti_caltech": KITTI_CALTECH,
}
