"""The closed choices of a preparation, in the words of the options and of dataset.json.

This module imports nothing heavy: `cavsync --help` shows the choices without loading the pipeline.
"""

from typing import Literal

Crop = Literal["centre", "none"]
FrameTimes = Literal["centred", "upstream"]
Alignment = Literal["time", "upstream"]
AudioChannel = Literal["first", "mean"]
# The audio file that a shard keeps of a clip, and its samples a second; "source" is as many as the video has.
AudioCodec = Literal["flac", "opus"]
AudioRate = Literal["16000", "48000", "source"]
DecoderName = Literal["pyav", "decord", "ffmpeg"]
# What `ID.mp4` holds: the whole upload, or the clip cut out of it; "auto" opens a few files and decides.
VideoLayout = Literal["auto", "whole", "cut"]
# Which clips of each file a folder's list has.
FolderClips = Literal["first", "all"]
# Where the labels of a folder's clips come from.
FolderLabels = Literal["none", "folders"]
