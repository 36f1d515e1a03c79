"""herdling raises a Llama."""
