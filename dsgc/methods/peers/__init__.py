"""Methods of other authors, a file each: the baseline with what each adds to it. The file's name is the method's."""
