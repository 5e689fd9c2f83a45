"""One file a question, each against a named peer in the same run: ``python -m benchmarks.<name>``."""
