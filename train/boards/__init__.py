"""Trained models as the encoders that public benchmarks score."""
