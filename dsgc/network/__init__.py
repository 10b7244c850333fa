"""What a network is: a vision transformer of timm's with the heads of Fig. 1, and the weights that it begins with. Imports `config`."""
