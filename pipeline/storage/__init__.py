"""Local paths and URLs behind one type, atomic writes and locks."""
