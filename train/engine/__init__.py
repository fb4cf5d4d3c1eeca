"""What every training shares: configuration, loop, optimizer, checkpoints, processes."""
