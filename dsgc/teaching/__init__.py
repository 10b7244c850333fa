"""What the chapters of the book share, and the only module that draws. Imports `experiments` and below; nothing imports it."""
