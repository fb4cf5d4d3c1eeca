"""`cavsync prepare`."""
