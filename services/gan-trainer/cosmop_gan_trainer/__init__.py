"""The gan-trainer service: dataset version -> snapshots, synthetic images. Start at ``__main__``."""
