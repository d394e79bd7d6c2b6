"""The test kit: what a plugin must hold, and stubs to build tests on. Needs pytest (``[testing]``)."""
