"""What a prepared dataset holds, and whether it is whole."""
