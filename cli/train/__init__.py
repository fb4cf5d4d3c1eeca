"""`cavsync train`."""
