"""Grids of runs, their results and where these come from, the paper's values, and tables of both. Imports `training` and below."""
