"""Measurements: each compares what ran side by side, for only that means anything on a busy machine."""
