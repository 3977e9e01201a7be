"""The tables and shards of a corpus, prepared features, and samplers of batches and episodes."""
