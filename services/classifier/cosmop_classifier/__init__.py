"""The classifier: trains binary and one-class models on dataset versions, and serves them over gRPC."""

import cosmop_common  # noqa: F401 - it silences ONNX Runtime, and must come before that is loaded
