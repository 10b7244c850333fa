"""The command line's options, and its processes under a launcher; `dsgc.__main__` runs the commands. Imports every floor but `teaching`."""
