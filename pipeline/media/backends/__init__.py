"""The libraries that decode, a module each, and which of them decode what on this machine."""
