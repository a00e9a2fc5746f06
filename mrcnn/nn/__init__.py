"""The network, one file a box of the papers' figures; `network.py` puts the boxes together.

Learned parts are functions over named `keras.layers`: the names are what weight files, `exclude`
and `layers="heads"` go by. Steps without weights are layers of fixed output shape: where there is
less to return than there are rows, the rest is zero.
"""
