"""Pure functions of boxes, anchors and masks; none of them knows a Config."""
