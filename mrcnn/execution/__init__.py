"""How a network's graph is run fast. `mrcnn/nn` defines what it computes.

Other rooms call `training_pass` and `detection_pass`. Reading order:

    graph_record      which call of which layer a symbolic tensor comes from
    convolutions      a convolution with its normalisation and ReLU, computed as one
    walk              values of a graph's tensors, with such convolutions
    recomputation     gradient checkpointing
    training_pass     all outputs of the training graph; masks of the positive rows only
    detection_pass    detections of a batch, then their masks; compiled
"""
