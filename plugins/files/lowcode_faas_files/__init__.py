"""A plugin of lowcode-faas."""
