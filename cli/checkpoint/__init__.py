"""`cavsync checkpoint`."""
