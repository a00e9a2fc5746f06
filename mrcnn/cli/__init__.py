"""The command `mrcnn`, one file per verb. The files call the package; they compute nothing."""
