"""A caller of the public API: where the service is, what it answers, what it refuses."""
