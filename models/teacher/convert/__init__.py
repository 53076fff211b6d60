"""Original checkpoints of the foundation models, turned into folders that transformers reads."""
