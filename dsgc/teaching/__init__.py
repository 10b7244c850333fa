"""What the chapters of the book share, and the only modules that draw figures. Imports `experiments` and below; nothing imports it."""
