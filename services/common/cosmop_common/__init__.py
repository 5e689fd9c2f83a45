"""What every service shares: settings, bus, store, safe image decoding, gRPC and HTTP bootstrap, telemetry, contracts."""

import os

# ONNX Runtime from 1.29 on reports to its maker unless this is set before it is loaded; nothing of ours calls home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
