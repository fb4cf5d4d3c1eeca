"""Work that goes on while a device computes a step: copies to and from it, its clock, and the loader's processes."""
