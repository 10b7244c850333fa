"""How a method is trained: the loop, a step, what can go wrong, and the pre-training of the small encoder. Imports `scoring` and below."""
