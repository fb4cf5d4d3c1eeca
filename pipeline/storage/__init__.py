"""Local paths and URLs behind one type, atomic writes, locks."""
