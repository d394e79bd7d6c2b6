"""Where user code runs: frames, the channel, one instance, the pool of them, and the verdicts."""
