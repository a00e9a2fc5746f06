"""How a network's graph is run fast; what it computes is said in `mrcnn/nn`."""
