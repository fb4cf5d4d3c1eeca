"""`cavsync study`."""
