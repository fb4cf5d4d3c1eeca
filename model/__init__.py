"""Tensors to tensors: the CAV-MAE Sync model and its checkpoints."""
