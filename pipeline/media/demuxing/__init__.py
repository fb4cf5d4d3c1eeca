"""Opens media files and reads their coded packets; decodes nothing."""
