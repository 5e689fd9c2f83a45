"""The classifier: trains binary and one-class models on dataset versions, and serves them over gRPC."""
