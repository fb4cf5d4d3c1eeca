"""`cavsync eval`."""
