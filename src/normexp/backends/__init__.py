"""Floor 2: who computes on which array, and with how many threads."""
