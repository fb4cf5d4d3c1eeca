"""`cavsync data`."""
