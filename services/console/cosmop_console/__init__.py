"""What people touch: the web UI, dataset versions, runs of the whole pipeline, and the ``cosmop`` command."""
