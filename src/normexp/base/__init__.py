"""Floor 0: errors, the words for annotations, checks, precision. Imports nothing of normexp."""
