"""A clip's own audio against perturbed versions of it."""
