"""Data: images and masks from a user's Dataset to training batches; NumPy in, NumPy out."""
