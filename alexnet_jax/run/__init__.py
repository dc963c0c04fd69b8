"""What a run leaves behind: checkpoints, metrics, provenance, the best network."""
