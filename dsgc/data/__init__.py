"""Data sets in the VOC layout: reading, writing and augmenting them. Knows no network."""
