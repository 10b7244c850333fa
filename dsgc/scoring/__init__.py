"""How networks are scored: predictions, scores, pictures, and what a correction did to a label. Imports `runs` and below."""
