"""What a run leaves on disk and how it is read again, and the processes it runs in. Imports `network`, `methods` and `data`."""
