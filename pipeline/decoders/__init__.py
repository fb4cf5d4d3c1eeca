"""The libraries that can decode a clip: each module has one class `Decoder`, a `Backend` of pipeline/decode.py."""
