"""The parts of every training: configuration, loop, optimizer, checkpoints, processes."""
