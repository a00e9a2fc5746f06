"""How a network's graph is run fast. What it computes stands in `mrcnn/nn`.

`training_pass` and `detection_pass` are called from outside; reading order:

    graph_record      which call of which layer a symbolic tensor comes from
    convolutions      a convolution with its normalisation and ReLU, computed as one
    walk              values of a graph's tensors, with such convolutions
    recomputation     blocks that are computed again for gradients and not kept
    training_pass     all outputs of the training graph; masks of the positive rows only
    detection_pass    detections of a batch, then their masks; compiled
"""
