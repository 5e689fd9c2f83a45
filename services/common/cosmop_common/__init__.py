"""What every service shares: settings, bus, store, safe image decoding, gRPC and HTTP bootstrap, telemetry, contracts."""
