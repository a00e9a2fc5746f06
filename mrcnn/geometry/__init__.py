"""Pure functions of boxes, anchors and masks. None of them reads a Config."""
