"""What the known data sets look like, for tools that run without their files."""

# Height, width and channels of a frame, as the sources give it.
FRAMES = {
    "bair": (64, 64, 3),
    "human": (256, 256, 3),
    "kinetics": (256, 256, 3),
    "kitti_caltech": (128, 160, 3),
    "kth": (128, 128, 1),
    "moving_fmnist": (64, 64, 1),
    "moving_mnist": (64, 64, 1),
    "moving_mnist_cifar": (64, 64, 3),
    "noisy_moving_mnist": (64, 64, 1),
    "taxibj": (32, 32, 2),
}

# Training clips as the data sets or OpenSTL state them. What a source finds differs a
# little: part may be held out for validation, and Kinetics loses videos every year.
TRAIN_CLIPS = {
    "human": 73_404,
    "kitti_caltech": 2_042,
    "kth": 5_200,
    "moving_fmnist": 10_000,
    "moving_mnist": 10_000,
    "moving_mnist_cifar": 10_000,
    "noisy_moving_mnist": 10_000,
    "taxibj": 20_461,
    "weatherbench": 52_560,  # 2010 to 2015, one an hour
    # Labelled videos, by their format and number of classes.
    ("hmdb51", 51): 3_570,
    ("kinetics", 400): 240_436,
    ("something_v1", 174): 86_017,
    ("something_v2", 174): 168_913,
    ("ucf101", 101): 9_537,
}
