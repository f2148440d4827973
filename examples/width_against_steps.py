"""
Parameters against steps
========================

How many steps does a model of so many parameters need to be as right as a larger one? Gated cells on a line with kernels of 3 to 17 places, so of some hundred to some thousand parameters,
learn prefix sums of 32 bits; of each is read off with how many steps it has 95 % of longer strings right, and a power law is fitted to the exchange.
"""
