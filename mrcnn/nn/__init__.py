"""The network, one file per box of the papers' figures; `network.py` puts the boxes together.

Learned parts are functions over named `keras.layers`, because weight files, `exclude` and
`layers="heads"` use the layers' names. Steps without weights are layers with a fixed output shape;
unused rows of the output are zero.
"""
