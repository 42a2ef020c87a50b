"""The version of this release. pyproject.toml has the same, and CHANGELOG.md says what changed."""

FOOTFALL_VERSION = "0.1.0"
