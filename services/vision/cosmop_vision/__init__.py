"""Networks by name, their weights, preprocessing, and the fast runtimes: the one place that knows torch's and torchvision's quirks.

Start with ``cosmop_vision.runtime.Extractor`` (features of images) and ``cosmop_vision.modules`` (networks to train).
"""

import cosmop_common  # noqa: F401 - it silences ONNX Runtime, and must come before that is loaded
