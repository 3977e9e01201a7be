"""The data report, and what changed between two versions of a corpus."""
