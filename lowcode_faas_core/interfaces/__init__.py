"""The roles a plugin can fill, one abstract class each; ``testing/`` holds the contract tests."""
