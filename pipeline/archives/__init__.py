"""Archives as folders of videos: what is in them, found once and kept in an index, and where each member's bytes are."""
