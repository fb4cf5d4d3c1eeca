"""Files that hold a model, and the records of what a reader needs besides the tensors."""
