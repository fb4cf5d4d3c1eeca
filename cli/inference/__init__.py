"""`cavsync embed`, `search` and `localize`."""
