"""Data sets: layouts, lists, pictures and masks on disk, and batches of them. Imports `errors`; knows no network."""
